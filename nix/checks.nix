# checks.<system>: what `nix flake check` builds.
{ pkgs, self }:
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
