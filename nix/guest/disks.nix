# The drivers of every disk and CD-ROM drive that the role attaches. A disk that Proxmox VE enlarged stays as disko made it.
{ lib, modulesPath, ... }:
{
  imports = [ (modulesPath + "/profiles/qemu-guest.nix") ];

  boot.initrd.availableKernelModules = [
    "ahci"
    "ata_piix"
    "sd_mod"
    "sr_mod"
    "virtio_blk"
    "virtio_pci"
    "virtio_scsi"
  ];
  boot.growPartition = lib.mkDefault false;
}
