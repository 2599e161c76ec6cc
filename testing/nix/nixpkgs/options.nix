# The options of NixOS that we use, with their types, as in its manual.
{ lib, types }:
let
  inherit (types)
    anything
    atoms
    attrsOf
    bool
    enum
    int
    lines
    listOf
    matching
    nullOr
    open
    package
    path
    str
    tree
    ;
  default =
    type: default:
    lib.mkOption {
      inherit type default;
    };
  enable = default bool false;
  unit = open {
    wantedBy = listOf str;
    after = listOf str;
    serviceConfig = attrsOf atoms;
    unitConfig = attrsOf atoms;
  } anything;
  yesOrNo = [
    true
    false
    "yes"
    "no"
  ];
in
{
  assertions = default (listOf (tree {
    assertion = bool;
    message = str;
  })) [ ];

  boot = {
    growPartition = enable;
    initrd = {
      availableKernelModules = listOf str;
      kernelModules = listOf str;
      systemd.enable = enable;
    };
    kernelPackages = anything;
    kernelParams = listOf str;
    loader = {
      timeout = nullOr int;
      efi.canTouchEfiVariables = enable;
      grub = {
        # GRUB is the default of NixOS.
        enable = default bool true;
        device = default str "";
        efiSupport = enable;
        efiInstallAsRemovable = enable;
      };
      systemd-boot.enable = enable;
    };
    swraid.enable = enable;
  };

  documentation = {
    enable = default bool true;
    nixos.enable = default bool true;
  };

  environment.systemPackages = listOf package;

  fileSystems = default (attrsOf (open { neededForBoot = enable; } anything)) { };

  image = {
    baseName = str;
    fileName = str;
  };

  isoImage = {
    makeEfiBootable = enable;
    makeUsbBootable = enable;
    # mksquashfs's names, each with options after it.
    squashfsCompression = nullOr (matching "(gzip|lz4|lzo|xz|zstd)( -X.*)?");
  };

  networking = {
    dhcpcd.enable = default bool true;
    hostName = default str "nixos";
    networkmanager.enable = enable;
    useDHCP = default bool true;
    useNetworkd = enable;
    usePredictableInterfaceNames = default bool true;
    wireless.enable = enable;
  };

  nix.settings = open {
    experimental-features = listOf str;
    trusted-users = listOf str;
  } atoms;

  nixpkgs = {
    hostPlatform = enum [
      "x86_64-linux"
      "aarch64-linux"
    ];
    flake = {
      setFlakeRegistry = bool;
      setNixPath = bool;
    };
  };

  security.sudo = {
    enable = default bool true;
    wheelNeedsPassword = default bool true;
  };

  services = {
    cloud-init = {
      enable = enable;
      network.enable = enable;
      # Free in NixOS; these are cloud-init's own names.
      settings = tree {
        datasource_list = listOf (enum [
          "ConfigDrive"
          "NoCloud"
          "None"
        ]);
        disable_root = bool;
        ssh_deletekeys = bool;
        ssh_genkeytypes = listOf str;
        system_info = {
          distro = str;
          network.renderers = listOf (enum [ "networkd" ]);
          default_user = {
            name = str;
            gecos = str;
            groups = listOf str;
            lock_passwd = bool;
            shell = str;
          };
        };
      };
    };
    getty.autologinUser = nullOr str;
    openssh = {
      enable = enable;
      authorizedKeysInHomedir = default bool true;
      extraConfig = lines;
      hostKeys = listOf (tree {
        path = str;
        type = enum [
          "ecdsa"
          "ed25519"
          "rsa"
        ];
      });
      # Free in NixOS; these are sshd's own names.
      settings = tree {
        KbdInteractiveAuthentication = bool;
        PasswordAuthentication = bool;
        PerSourcePenalties = str;
        PermitRootLogin = enum [
          "yes"
          "no"
          "prohibit-password"
          "forced-commands-only"
        ];
      };
    };
    qemuGuest.enable = enable;
  };

  system = {
    build = attrsOf package;
    installer.channel.enable = default bool true;
    nixos.variant_id = nullOr str;
    stateVersion = str;
  };

  systemd = {
    network = {
      # The sections' keys are networkd's, of which NixOS checks the names and most values.
      networks = attrsOf (tree {
        address = listOf (matching "[0-9a-fA-F.:]+/[0-9]+");
        dhcpV4Config.RouteMetric = int;
        dns = listOf str;
        domains = nullOr (listOf str);
        gateway = listOf (matching "[0-9a-fA-F.:]+");
        ipv6AcceptRAConfig.RouteMetric = int;
        matchConfig = {
          Kind = enum [ "!*" ];
          MACAddress = str;
          Name = str;
          PermanentMACAddress = str;
          Type = enum [ "ether" ];
        };
        networkConfig = {
          DHCP = enum (
            yesOrNo
            ++ [
              "ipv4"
              "ipv6"
            ]
          );
          IPv6AcceptRA = enum yesOrNo;
        };
        routes = listOf (tree {
          Gateway = matching "[0-9a-fA-F.:]+";
          GatewayOnLink = enum yesOrNo;
        });
      });
      wait-online = {
        anyInterface = enable;
        timeout = int;
      };
    };
    packages = listOf package;
    services = attrsOf unit;
    targets = attrsOf unit;
  };

  users = {
    mutableUsers = default bool true;
    users = attrsOf (tree {
      description = str;
      extraGroups = listOf str;
      hashedPasswordFile = nullOr path;
      isNormalUser = enable;
      openssh.authorizedKeys.keys = listOf str;
    });
  };

  virtualisation = {
    hypervGuest.enable = enable;
    virtualbox.guest.enable = enable;
    vmware.guest = {
      enable = enable;
      headless = enable;
    };
  };
}
