# cloud-init as every system here has it: users, keys and the network come from the drive that is attached to the machine.
{ lib, ... }:
{
  services.cloud-init = {
    enable = true;
    network.enable = true;
    settings = {
      # A host key that the drive brings is there before sshd starts, and has to stay.
      ssh_deletekeys = false;
      ssh_genkeytypes = [ "ed25519" ];

      # As in NixOS's module, which sets all of system_info or nothing.
      system_info = {
        distro = "nixos";
        network.renderers = [ "networkd" ];
      };
    };
  };

  # Left to cloud-init, which could not change /etc/hostname otherwise.
  networking.hostName = lib.mkDefault "";
}
