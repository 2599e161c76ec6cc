# Proxmox VE shuts the guest down through the QEMU agent, freezes its file systems for backups, and reads its addresses.
{ lib, ... }:
{
  services.qemuGuest.enable = lib.mkDefault true;
}
