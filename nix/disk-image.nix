# What a system needs so that each copy of its disk image becomes a machine of its own: host keys, login keys, host name and addresses
# come from the seed that the role attaches (docs/disk-images.md). The image itself is one of config.system.build.images.
{ lib, ... }:
{
  imports = [
    ./cloud-init.nix
    ./guest/agent.nix
    ./guest/console.nix
    ./guest/disks.nix
    ./installer/network.nix
  ];

  # There is no ds-identify on NixOS: with cloud-init's own list, a machine without a seed would ask the network for every cloud. Without
  # "None": a machine whose seed was removed would be set up anew, as another instance.
  services.cloud-init.settings.datasource_list = [
    "NoCloud"
    "ConfigDrive"
  ];

  services.openssh = {
    enable = lib.mkDefault true;
    # Where cloud-init puts the keys.
    authorizedKeysInHomedir = lib.mkDefault true;
  };

  # The disk is larger than the image.
  boot.growPartition = true;
}
