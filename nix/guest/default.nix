# What makes a NixOS system a guest of Proxmox VE, by the facts that its inventory has of it: see docs/guest-facts.md.
{
  imports = [
    ./agent.nix
    ./boot-loader.nix
    ./console.nix
    ./disks.nix
    ./identity.nix
    ./network.nix
    ./options.nix
  ];
}
