# guest.address' wants
{
  imports = [ ../../../nix/guest ];
  nixos-proxmox.guest = {
    address = "192.0.2.11/24";
  };
}
