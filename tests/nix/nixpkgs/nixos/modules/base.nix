# What every system has.
{
  config,
  lib,
  pkgs,
  ...
}:
{
  system.build.toplevel = pkgs.runCommand "nixos-system-${config.networking.hostName}" { } "";
  system.nixos.variant_id = lib.mkOverride 1500 null;
}
