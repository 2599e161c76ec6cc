# guest.hostKeyPath' wants
{
  imports = [ ../../../nix/guest ];
  nixos-proxmox.guest = {
    address = "dhcp";
    hostKeyPath = "/etc/ssh/host_key";
  };
}
