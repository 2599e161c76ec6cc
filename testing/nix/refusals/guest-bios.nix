# guest.bios' wants
{
  imports = [ ../../../nix/guest ];
  nixos-proxmox.guest = {
    address = "dhcp";
    bios = "uefi";
  };
}
