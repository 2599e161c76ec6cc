# guest.adress' does not exist
{
  imports = [ ../../../nix/guest ];
  nixos-proxmox.guest = {
    adress = "dhcp";
  };
}
