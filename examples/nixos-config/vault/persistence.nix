# What outlives a reboot, beside /nix and the SSH host keys. A password that was set by hand does not.
{
  environment.persistence."/persist" = {
    hideMounts = true;
    directories = [
      "/var/lib/nixos"
      "/var/lib/systemd"
      "/var/log"
    ];
    files = [ "/etc/machine-id" ];
  };
}
