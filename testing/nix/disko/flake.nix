{
  description = "A stand-in for disko: its options, as far as the examples use them; see ../README.md";
  outputs =
    { ... }:
    {
      nixosModules.disko = import ./module.nix;
    };
}
