# virtualisation.vmware.guest.headles' does not exist
{ lib, pkgs, ... }:
{
  virtualisation = lib.mkIf pkgs.stdenv.hostPlatform.isx86_64 { vmware.guest.headles = true; };
}
