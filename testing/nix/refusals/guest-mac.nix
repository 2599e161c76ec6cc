# guest.mac' wants
{
  imports = [ ../../../nix/guest ];
  nixos-proxmox.guest = {
    address = "dhcp";
    mac = "020000000011";
  };
}
