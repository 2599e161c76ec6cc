# GRUB for SeaBIOS, systemd-boot for OVMF; a configuration that enables either itself is left alone. disko tells GRUB its disk.
{ config, lib, ... }:
let
  inherit (config.boot.loader) grub;
in
{
  boot.loader = {
    grub.enable = lib.mkDefault (config.nixos-proxmox.guest.bios == "seabios");
    systemd-boot.enable = lib.mkDefault (!grub.enable);
    # systemd-boot is in the place where OVMF looks by itself, too: the machine boots without its EFI variables.
    efi.canTouchEfiVariables = lib.mkDefault false;
  };
}
