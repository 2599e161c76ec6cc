# The installer's data sources, and the user of Proxmox VE's own drives.
{
  imports = [ ../cloud-init.nix ];

  services.cloud-init.settings = {
    # There is no ds-identify on NixOS: with cloud-init's own list, a machine without a drive
    # would ask the network for every known cloud, for minutes.
    datasource_list = [
      "NoCloud"
      "ConfigDrive"
      "None"
    ];

    # Whom Proxmox VE's own drives mean by `users: [default]`.
    system_info.default_user = {
      name = "nixos";
      gecos = "NixOS installer";
      groups = [ "wheel" ];
      lock_passwd = false;
      shell = "/run/current-system/sw/bin/bash";
    };
  };
}
