# What a system needs so that each copy of its disk image becomes a machine of its own: host keys, login keys, host name and addresses
# come from the seed that the role attaches (docs/disk-images.md). The image itself is one of config.system.build.images.
{ lib, ... }:
{
  imports = [
    ./guest/agent.nix
    ./guest/console.nix
    ./guest/disks.nix
    ./installer/network.nix
  ];

  services.cloud-init = {
    enable = true;
    network.enable = true;
    settings = {
      # There is no ds-identify on NixOS: with cloud-init's own list, a machine without a seed would ask the network for every cloud.
      # Without "None": a machine whose seed was removed would be set up anew, as another instance.
      datasource_list = [
        "NoCloud"
        "ConfigDrive"
      ];
      # The host keys of the seed are there before sshd starts, and stay.
      ssh_deletekeys = false;
      ssh_genkeytypes = [ "ed25519" ];
      # As in NixOS's module, which sets all of system_info or nothing.
      system_info = {
        distro = "nixos";
        network.renderers = [ "networkd" ];
      };
    };
  };
  # Left to cloud-init, which could not change /etc/hostname otherwise.
  networking.hostName = lib.mkDefault "";

  services.openssh = {
    enable = lib.mkDefault true;
    # Where cloud-init puts the keys.
    authorizedKeysInHomedir = lib.mkDefault true;
  };

  # The disk is larger than the image.
  boot.growPartition = true;
}
