# prefixLength and ipv6.prefixLength: are required
{
  imports = [ ../../../nix/guest ];
  nixos-proxmox.guest = {
    address = "192.0.2.11";
  };
}
