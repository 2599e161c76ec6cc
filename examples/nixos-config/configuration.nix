# What all machines have. The rest of what a guest of Proxmox VE needs is in nixosModules.guest.
{ config, lib, ... }:
{
  nixpkgs.hostPlatform = lib.mkDefault "x86_64-linux";
  system.stateVersion = "26.05";
  nix.settings.experimental-features = [
    "nix-command"
    "flakes"
  ];

  services.openssh.settings = {
    PasswordAuthentication = false;
    PermitRootLogin = "prohibit-password";
  };

  # The keys of nixos_vm_authorized_keys log in as root, and as this user.
  users.users.admin = {
    isNormalUser = true;
    extraGroups = [ "wheel" ];
    openssh.authorizedKeys.keys = config.nixos-proxmox.guest.authorizedKeys;
  };
  security.sudo.wheelNeedsPassword = false;
}
