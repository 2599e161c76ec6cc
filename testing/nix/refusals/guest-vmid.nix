# guest.vmid' wants
{
  imports = [ ../../../nix/guest ];
  nixos-proxmox.guest = {
    address = "dhcp";
    vmid = 99;
  };
}
