# What turns a NixOS system into an installer that a cloud-init drive configures. It imports no
# image format: for an ISO of your own see image.nix; a netboot or kexec image takes this as well.
{
  imports = [
    ./cloud-init.nix
    ./console.nix
    ./guest-agents.nix
    ./network.nix
    ./ssh.nix
    ./tools.nix
  ];
}
