# What all machines have.
{ lib, modulesPath, ... }:
let
  # Who holds the private half of one of these keys can log in. While the list is empty, only the key works that the inventory
  # puts into /root/.ssh/authorized_keys (nixos_vm_extra_files).
  keys = [ ];
in
{
  imports = [ (modulesPath + "/profiles/qemu-guest.nix") ];

  nixpkgs.hostPlatform = lib.mkDefault "x86_64-linux";
  system.stateVersion = "26.05";
  nix.settings.experimental-features = [
    "nix-command"
    "flakes"
  ];

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
  # `qm terminal` shows what the screen shows.
  boot.kernelParams = [
    "console=tty1"
    "console=ttyS0,115200"
  ];

  services.qemuGuest.enable = true;
  services.openssh = {
    enable = true;
    settings.PasswordAuthentication = false;
    settings.PermitRootLogin = "prohibit-password";
  };

  users.users.root.openssh.authorizedKeys.keys = keys;
  users.users.admin = {
    isNormalUser = true;
    extraGroups = [ "wheel" ];
    openssh.authorizedKeys.keys = keys;
  };
  security.sudo.wheelNeedsPassword = false;
}
