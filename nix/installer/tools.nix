# What nixos-anywhere runs on the installer, and what a person wants who looks after it.
{ pkgs, ... }:
{
  nix.settings = {
    experimental-features = [
      "nix-command"
      "flakes"
    ];
    # Seconds. A cache behind a firewall that drops packets costs five attempts of this length, not of 15 seconds.
    connect-timeout = 5;
  };

  environment.systemPackages = [
    # nixos-anywhere refuses a machine without the first two.
    pkgs.cpio
    pkgs.gnutar
    pkgs.curl
    pkgs.disko
    pkgs.git
    pkgs.jq
    pkgs.nixos-facter
    pkgs.rsync
    pkgs.zstd
    # For people.
    pkgs.dmidecode
    pkgs.htop
    pkgs.ncdu
    pkgs.nano
    pkgs.vim
  ];
}
