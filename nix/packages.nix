# packages.<system>: what can be built by name.
{
  pkgs,
  version,
  self,
}:
let
  inherit (pkgs.stdenv.hostPlatform) system;
  installer = self.nixosConfigurations.${pkgs.lib.removeSuffix "-linux" system};

  # By cross compilation: pkgsStatic compiles rustc itself from source, for hours, and links build scripts statically.
  staticModules =
    cross:
    cross.callPackage ./modules.nix {
      inherit version;
      static = true;
    };
in
rec {
  default = installer-iso;
  # The file is result/iso/nixos-proxmox-installer-VERSION-ARCHITECTURE.iso.
  installer-iso = installer.config.system.build.isoImage;

  modules = pkgs.callPackage ./modules.nix { inherit version; };
  # Run on any Linux: what a release ships.
  modules-static = staticModules (
    if pkgs.stdenv.hostPlatform.isx86_64 then
      pkgs.pkgsCross.musl64
    else
      pkgs.pkgsCross.aarch64-multiplatform-musl
  );

  ansible-role = pkgs.callPackage ./ansible-role.nix { inherit version modules; };
  provision = pkgs.callPackage ./provision.nix { role = ansible-role; };
}
# A release builds both on one machine.
// pkgs.lib.optionalAttrs pkgs.stdenv.hostPlatform.isx86_64 {
  modules-static-aarch64 = staticModules pkgs.pkgsCross.aarch64-multiplatform-musl;
}
