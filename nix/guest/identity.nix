# The host name, who may log in, and the host key by which the machine is known.
{ config, lib, ... }:
let
  cfg = config.nixos-proxmox.guest;
  kind = path: lib.head (builtins.match ".*ssh_host_(.*)_key" path);
in
{
  networking.hostName = lib.mkIf (cfg.hostName != null) (lib.mkDefault cfg.hostName);

  services.openssh = {
    enable = lib.mkDefault true;
    hostKeys = lib.mkIf (cfg.hostKeyPath != null) [
      {
        path = cfg.hostKeyPath;
        type = kind cfg.hostKeyPath;
      }
    ];
  };
  users.users.root.openssh.authorizedKeys.keys = lib.unique cfg.authorizedKeys;
}
