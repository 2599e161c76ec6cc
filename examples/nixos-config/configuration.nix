{ modulesPath, ... }:
{
  imports = [ (modulesPath + "/profiles/qemu-guest.nix") ];

  nixpkgs.hostPlatform = "x86_64-linux";
  system.stateVersion = "26.05";

  # Both kinds of firmware: disko gives GRUB the BIOS boot partition and the ESP.
  boot.loader.grub = {
    enable = true;
    efiSupport = true;
    efiInstallAsRemovable = true;
  };
  boot.initrd.availableKernelModules = [
    "ata_piix"
    "sd_mod"
    "sr_mod"
    "virtio_pci"
    "virtio_scsi"
  ];
  boot.kernelParams = [ "console=ttyS0,115200" ];

  networking.useNetworkd = true;
  networking.useDHCP = true;

  services.qemuGuest.enable = true;
  services.openssh = {
    enable = true;
    settings.PasswordAuthentication = false;
    settings.PermitRootLogin = "prohibit-password";
  };

  # Replace it: whoever holds this key's other half can log in.
  users.users.root.openssh.authorizedKeys.keys = [ ];
}
