# What every system has.
{
  config,
  lib,
  pkgs,
  ...
}:
{
  boot.kernelPackages.hyperv-daemons.lib = pkgs.hyperv-daemons;
  system.build.toplevel = pkgs.runCommand "nixos-system-${config.networking.hostName}" { } "";
  system.nixos.variant_id = lib.mkOverride 1500 null;
}
