# attribute 'nixos-anywere' missing
{ pkgs, ... }:
{
  environment.systemPackages = [ pkgs.nixos-anywere ];
}
