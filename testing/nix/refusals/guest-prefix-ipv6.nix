# prefixLength and ipv6.prefixLength: are required
{
  imports = [ ../../../nix/guest ];
  nixos-proxmox.guest = {
    address = "dhcp";
    ipv6.address = "2001:db8::11";
  };
}
