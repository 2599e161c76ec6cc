# Users, keys and the network come from the drive that is attached to the machine.
{ lib, ... }:
{
  services.cloud-init = {
    enable = true;
    network.enable = true;
    settings = {
      # There is no ds-identify on NixOS: with cloud-init's own list, a machine without a drive
      # would ask the network for every known cloud, for minutes.
      datasource_list = [
        "NoCloud"
        "ConfigDrive"
        "None"
      ];

      # A host key that the drive brings is there before sshd starts, and has to stay.
      ssh_deletekeys = false;
      ssh_genkeytypes = [ "ed25519" ];

      # The first two as in NixOS's module, which sets all of system_info or nothing.
      system_info = {
        distro = "nixos";
        network.renderers = [ "networkd" ];
        # Whom Proxmox VE's own drives mean by `users: [default]`.
        default_user = {
          name = "nixos";
          gecos = "NixOS installer";
          groups = [ "wheel" ];
          lock_passwd = false;
          shell = "/run/current-system/sw/bin/bash";
        };
      };
    };
  };

  # Left to cloud-init, which could not change /etc/hostname otherwise.
  networking.hostName = lib.mkDefault "";
}
