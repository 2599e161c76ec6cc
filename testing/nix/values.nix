# nix-instantiate --eval --strict --json: `values`, which values.json has to have, the boot test's `program`, and shell `scripts`.
let
  nixpkgs = (import ./nixpkgs/flake.nix).outputs { };
  inherit (nixpkgs) lib;
  flake = (import ../../flake.nix).outputs {
    self = flake;
    inherit nixpkgs;
  };
  examples = (import ../../examples/nixos-config/flake.nix).outputs {
    inherit nixpkgs;
    nixos-proxmox = flake;
    disko = (import ./disko/flake.nix).outputs { };
    impermanence = (import ./impermanence/flake.nix).outputs { };
  };

  # A guest by its facts alone.
  guest =
    hostPlatform: facts:
    system (
      lib.nixosSystem {
        modules = [
          flake.nixosModules.guest
          { nixpkgs = { inherit hostPlatform; }; }
          { nixos-proxmox.guest = facts; }
        ];
      }
    );
  allFacts = {
    vmid = 211;
    node = "pve1";
    hostName = "web1";
    address = "192.0.2.11";
    prefixLength = 24;
    gateway = "192.0.2.1";
    ipv6 = {
      address = "2001:db8::11";
      prefixLength = 64;
      gateway = "2001:db8::1";
    };
    nameservers = [
      "192.0.2.1"
      "192.0.2.1"
    ];
    searchDomains = [ "example.org" ];
    mac = "02:00:00:00:00:11";
    authorizedKeys = [
      "ssh-ed25519 AAAA me"
      "ssh-ed25519 AAAA me"
    ];
    hostKeyPath = "/persist/etc/ssh/ssh_host_ed25519_key";
    diskDevice = "/dev/vda";
  };

  # Options that were set; packages by their names.
  plain =
    value:
    if lib.isAttrs value && value ? __set then
      lib.genAttrs value.__set (name: plain value.${name})
    else if lib.isAttrs value && (value.type or null) == "derivation" then
      value.name
    else if lib.isAttrs value then
      lib.mapAttrs (_: plain) value
    else if lib.isList value then
      map plain value
    else
      value;
  system =
    { config, ... }:
    plain (
      config
      // {
        system = config.system // {
          build = "not built";
        };
      }
    );

  modules = import ../../nix/modules.nix {
    inherit lib;
    openssl.override = { static }: "openssl, ${if static then "static" else "shared"}";
    pkg-config = "pkg-config";
    rustPlatform.buildRustPackage = attributes: attributes;
    version = "0";
    static = true;
  };
  # Paths in the store without its place and their hashes.
  withoutHashes =
    text:
    lib.concatMapStringsSep "" (part: if lib.isString part then part else "STORE/") (
      builtins.split "${builtins.storeDir}/[0-9a-z]{32}-" (builtins.unsafeDiscardStringContext text)
    );
  provision =
    writeText:
    import ../../nix/provision.nix {
      inherit lib writeText;
      ansible = "ansible";
      git = "git";
      nixos-anywhere = "nixos-anywhere";
      openssh = "openssh";
      role = "ROLE";
      writeShellApplication = application: application;
    };
  role = import ../../nix/ansible-role.nix {
    modules = "MODULES";
    runCommand =
      _name: _attributes: script:
      script;
    version = "0";
  };
  profiles = (lib.importTOML ../../Cargo.toml).profile;
in
{
  values = {
    installer = lib.mapAttrs (_: system) flake.nixosConfigurations;
    guests =
      lib.genAttrs
        [
          "x86_64-linux"
          "aarch64-linux"
        ]
        (
          platform:
          lib.genAttrs [ "ovmf" "seabios" ] (bios: guest platform (allFacts // { inherit bios; }))
          // {
            dhcp = guest platform { address = "dhcp"; };
          }
        );
    ipv6 = {
      dhcp = guest "x86_64-linux" { ipv6.address = "dhcp"; };
      both = guest "x86_64-linux" {
        address = "dhcp";
        ipv6.address = "dhcp";
      };
      auto = guest "x86_64-linux" { ipv6.address = "auto"; };
      withoutGateway = guest "x86_64-linux" {
        address = "dhcp";
        ipv6 = {
          address = "2001:db8::11";
          prefixLength = 64;
        };
      };
    };
    # A system for disk images, without the image.
    diskImage = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (
      hostPlatform:
      system (
        lib.nixosSystem {
          modules = [
            flake.nixosModules.disk-image
            { nixpkgs = { inherit hostPlatform; }; }
          ];
        }
      )
    );
    # What the configuration itself sets is left alone.
    ownSettings = system (
      lib.nixosSystem {
        modules = [
          flake.nixosModules.guest
          {
            nixpkgs.hostPlatform = "x86_64-linux";
            nixos-proxmox.guest = {
              bios = "ovmf";
              configureNetwork = false;
              hostName = "web1";
            };
            boot.loader.grub.enable = true;
            boot.loader.efi.canTouchEfiVariables = true;
            boot.growPartition = true;
            networking.hostName = "other";
            services.openssh.enable = false;
            services.qemuGuest.enable = false;
          }
        ];
      }
    );
    examples = {
      # The others differ in their names and addresses.
      web1 = system examples.nixosConfigurations.web1;
      vault1 = system examples.nixosConfigurations.vault1;
    };
    # What they are locked to is in flake.lock.
    inputs = {
      examples = (import ../../examples/nixos-config/flake.nix).inputs;
      flake = (import ../../flake.nix).inputs;
    };
    modules = {
      inherit (modules)
        buildInputs
        cargoBuildFlags
        env
        ;
      profile = profiles.${modules.buildType}.inherits;
    };
    # With the configuration's text in the place of its path.
    provision = {
      inherit (provision (_name: text: text)) runtimeInputs;
      text = lib.filter lib.isString (
        builtins.split "\n" (withoutHashes (provision (_name: text: text)).text)
      );
    };
  };
  scripts = {
    inherit role;
    modules = modules.postInstall;
    provision = (provision (name: _text: name)).text;
  };
  program =
    (import ../../nix/boot-test.nix {
      iso = "/iso";
      fileName = "installer.iso";
      pkgs = nixpkgs.legacyPackages.x86_64-linux // {
        testers.runNixOSTest = test: test;
      };
    }).testScript;
}
