# A machine whose disk is encrypted and which forgets everything that is not listed here.
{
  imports = [
    ./disk.nix
    ./persistence.nix
  ];
}
