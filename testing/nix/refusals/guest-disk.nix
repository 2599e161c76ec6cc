# guest.diskDevice' wants
{
  imports = [ ../../../nix/guest ];
  nixos-proxmox.guest = {
    address = "dhcp";
    diskDevice = "sda";
  };
}
