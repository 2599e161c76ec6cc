# networking.useDHCP' wants a boolean
{ lib, config, ... }:
{
  config = lib.mkIf (config.networking.hostName == "nixos") { networking.useDHCP = 1; };
}
