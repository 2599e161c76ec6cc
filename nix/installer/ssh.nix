# SSH with keys only, root included; who can log in needs no password for sudo.
{
  services.openssh = {
    enable = true;
    # Where cloud-init puts the keys.
    authorizedKeysInHomedir = true;
    settings = {
      PermitRootLogin = "prohibit-password";
      PasswordAuthentication = false;
      KbdInteractiveAuthentication = false;
      # Whoever waits for the installer tries until its key is there, and would be shut out for it.
      PerSourcePenalties = "no";
    };

    # Made at boot if the drive brings none. An RSA key would take seconds.
    hostKeys = [
      {
        type = "ed25519";
        path = "/etc/ssh/ssh_host_ed25519_key";
      }
    ];
    # Offered if the drive brings them; sshd passes over a file that is not there.
    extraConfig = ''
      HostKey /etc/ssh/ssh_host_ecdsa_key
      HostKey /etc/ssh/ssh_host_rsa_key
    '';
  };

  security.sudo.wheelNeedsPassword = false;
}
