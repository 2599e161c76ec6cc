# nixos-proxmox.guest.address: is not set
{
  imports = [ ../../../nix/guest ];
  nixos-proxmox.guest = { };
}
