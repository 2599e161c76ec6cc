# What the minimal installer of nixpkgs sets and we may contradict, at the same priorities.
{
  config,
  lib,
  pkgs,
  ...
}:
{
  image.baseName = "nixos-minimal";
  image.fileName = "${config.image.baseName}.iso";
  isoImage.makeEfiBootable = true;
  isoImage.makeUsbBootable = true;
  boot.loader.timeout = 10;
  boot.swraid.enable = true;
  documentation.enable = lib.mkImageMediaOverride true;
  documentation.nixos.enable = lib.mkImageMediaOverride true;
  networking.wireless.enable = lib.mkDefault true;
  networking.networkmanager.enable = true;
  nix.settings.trusted-users = [ "nixos" ];
  security.sudo.wheelNeedsPassword = lib.mkImageMediaOverride false;
  services.getty.autologinUser = "nixos";
  services.openssh.enable = lib.mkDefault true;
  services.openssh.settings.PermitRootLogin = lib.mkDefault "yes";
  system.nixos.variant_id = lib.mkDefault "installer";
  users.users.nixos = {
    isNormalUser = true;
    extraGroups = [
      "wheel"
      "networkmanager"
      "video"
    ];
  };
  system.build.isoImage = pkgs.runCommand config.image.fileName { } "";
}
