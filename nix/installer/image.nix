# The installer as an ISO: config.system.build.isoImage.
{ lib, modulesPath, ... }:
{
  imports = [
    # Sets VARIANT_ID=installer too, by which nixos-anywhere and our modules know an installer.
    (modulesPath + "/installer/cd-dvd/installation-cd-minimal.nix")
    ./default.nix
  ];

  isoImage = {
    makeEfiBootable = true;
    makeUsbBootable = true;
    # zstd at its default level. nixpkgs uses level 19, which takes longer to compress for a smaller image.
    squashfsCompression = "zstd";
  };

  # Nobody is there to choose.
  boot.loader.timeout = lib.mkForce 2;

  # Not needed for installing a flake: a copy of nixpkgs, and the manual.
  system.installer.channel.enable = false;
  nixpkgs.flake = {
    setFlakeRegistry = false;
    setNixPath = false;
  };
  documentation.enable = lib.mkForce false;
  documentation.nixos.enable = lib.mkForce false;
}
