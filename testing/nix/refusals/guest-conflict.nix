# guest.address' has conflicting definition values
{ lib, ... }:
{
  imports = [ ../../../nix/guest ];
  nixos-proxmox.guest = lib.mkMerge [
    { address = "dhcp"; }
    { address = "192.0.2.11"; }
  ];
}
