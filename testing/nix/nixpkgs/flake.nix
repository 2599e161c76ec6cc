{
  description = "A small, strict stand-in for nixpkgs: see ../README.md";

  outputs =
    { ... }:
    let
      base = import ./lib.nix;
      withTypes = base // {
        types = import ./types.nix { lib = base; };
      };
      lib = withTypes // {
        nixosSystem = import ./eval.nix { lib = withTypes; };
      };
    in
    {
      inherit lib;
      legacyPackages = lib.genAttrs [
        "x86_64-linux"
        "aarch64-linux"
      ] (system: import ./packages.nix { inherit lib system; });
    };
}
