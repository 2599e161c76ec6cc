# LUKS with btrfs in it. There is no file system for /: it is in memory.
{ config, ... }:
let
  mountOptions = [
    "compress=zstd"
    "noatime"
  ];
in
{
  disko.devices.nodev."/" = {
    fsType = "tmpfs";
    mountOptions = [
      "size=50%"
      "mode=755"
    ];
  };

  disko.devices.disk.main = {
    device = config.nixos-proxmox.guest.diskDevice;
    type = "disk";
    content = {
      type = "gpt";
      partitions = {
        boot = {
          size = "1M";
          type = "EF02";
        };
        # Kernels and initial RAM disks are not encrypted.
        ESP = {
          size = "1G";
          type = "EF00";
          content = {
            type = "filesystem";
            format = "vfat";
            mountpoint = "/boot";
            mountOptions = [ "umask=0077" ];
          };
        };
        luks = {
          size = "100%";
          content = {
            type = "luks";
            name = "vault";
            # On the installer only; see the README. No newline at its end.
            passwordFile = "/tmp/disk.key";
            settings.allowDiscards = true;
            content = {
              type = "btrfs";
              subvolumes = {
                "/nix" = {
                  mountpoint = "/nix";
                  inherit mountOptions;
                };
                "/persist" = {
                  mountpoint = "/persist";
                  inherit mountOptions;
                };
                # Of its own, so that the host keys that the installation brings stay.
                "/ssh" = {
                  mountpoint = "/etc/ssh";
                  inherit mountOptions;
                };
              };
            };
          };
        };
      };
    };
  };

  boot.initrd.systemd.enable = true;
  boot.initrd.availableKernelModules = [ "tpm_tis" ];

  # Needed while the system is activated, before the other file systems are mounted.
  fileSystems."/persist".neededForBoot = true;
  fileSystems."/etc/ssh".neededForBoot = true;
}
