# checks.<system>: what `nix flake check` builds.
{
  nixosSystem,
  pkgs,
  self,
}:
let
  inherit (pkgs) lib;
  inherit (pkgs.stdenv.hostPlatform) system;
  packages = self.packages.${system};

  nixFiles = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.fileFilter (file: file.hasExt "nix") ../.;
  };

  # Not what needs Ansible or a virtual machine: `make test` runs those.
  crates = [
    "ansible-module"
    "deadline"
    "nocloud-seed"
    "pve-client"
    "pve-module"
  ];

  guest =
    bios:
    nixosSystem {
      modules = [
        self.nixosModules.guest
        {
          nixpkgs.hostPlatform = system;
          system.stateVersion = lib.trivial.release;
          fileSystems."/" = {
            device = "/dev/disk/by-label/nixos";
            fsType = "ext4";
          };
          boot.loader.grub.device = "/dev/sda";
          nixos-proxmox.guest = {
            inherit bios;
            hostName = "web1";
            address = "192.0.2.11";
            prefixLength = 24;
            gateway = "192.0.2.1";
            ipv6.address = "auto";
            nameservers = [ "192.0.2.1" ];
            searchDomains = [ "example.org" ];
            authorizedKeys = [ "ssh-ed25519 AAAA me" ];
            hostKeyPath = "/etc/ssh/ssh_host_ed25519_key";
          };
        }
      ];
    };
in
{
  format =
    pkgs.runCommand "nixos-proxmox-format"
      {
        nativeBuildInputs = [
          pkgs.deadnix
          pkgs.nixfmt
        ];
      }
      ''
        cd ${nixFiles}
        find . -name '*.nix' -exec nixfmt --check {} +
        deadnix --fail .
        touch $out
      '';

  rust = packages.modules.overrideAttrs (old: {
    pname = "nixos-proxmox-rust-check";
    nativeBuildInputs = old.nativeBuildInputs ++ [ pkgs.clippy ];
    buildPhase = ''
      cargo clippy --offline --workspace --all-targets -- --deny warnings
      cargo test --offline --lib ${lib.concatMapStringsSep " " (name: "--package ${name}") crates}
    '';
    installPhase = "touch $out";
    postInstall = "";
  });

  role = packages.ansible-role;

  # A guest of either firmware, by the real options of NixOS.
  guests = pkgs.writeText "nixos-proxmox-guests" (
    lib.concatMapStringsSep "\n" (
      bios: builtins.unsafeDiscardStringContext (guest bios).config.system.build.toplevel.drvPath
    ) ([ "ovmf" ] ++ lib.optional pkgs.stdenv.hostPlatform.isx86_64 "seabios")
  );

  # Both architectures, on either: evaluating needs no builder of the other one.
  evaluation = pkgs.writeText "nixos-proxmox-evaluation" (
    lib.concatMapStringsSep "\n" (
      installer:
      assert installer.config.system.nixos.variant_id == "installer";
      builtins.unsafeDiscardStringContext installer.config.system.build.isoImage.drvPath
    ) (builtins.attrValues self.nixosConfigurations)
  );
}
# Needs KVM, and either a binary cache or patience.
// lib.optionalAttrs (system == "x86_64-linux") {
  installer-boot = import ./boot-test.nix {
    inherit pkgs;
    iso = packages.installer-iso;
    inherit (self.nixosConfigurations.x86_64.config.image) fileName;
  };
}
