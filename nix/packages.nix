# packages.<system>: what can be built by name.
{
  pkgs,
  version,
  self,
}:
let
  inherit (pkgs.stdenv.hostPlatform) system;
  installer = self.nixosConfigurations.${pkgs.lib.removeSuffix "-linux" system};
in
rec {
  default = installer-iso;
  # The file is result/iso/nixos-proxmox-installer-VERSION-ARCHITECTURE.iso.
  installer-iso = installer.config.system.build.isoImage;

  modules = pkgs.callPackage ./modules.nix { inherit version; };
  # Runs on any Linux: what a release ships.
  modules-static = pkgs.pkgsStatic.callPackage ./modules.nix { inherit version; };

  ansible-role = pkgs.callPackage ./ansible-role.nix { inherit version modules; };
  provision = pkgs.callPackage ./provision.nix { role = ansible-role; };
}
