# Kernel messages and a login on the serial console (`qm terminal`) and on the screen.
{ lib, pkgs, ... }:
{
  boot.kernelParams =
    lib.optional pkgs.stdenv.hostPlatform.isx86_64 "console=ttyS0,115200"
    ++ lib.optional pkgs.stdenv.hostPlatform.isAarch64 "console=ttyAMA0,115200"
    # The last one is /dev/console.
    ++ [ "console=tty1" ];
}
