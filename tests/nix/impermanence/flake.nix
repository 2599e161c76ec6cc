{
  description = "A stand-in for impermanence: its options, as far as the examples use them; see ../README.md";
  outputs =
    { ... }:
    {
      nixosModules.impermanence =
        { lib, ... }:
        {
          options.environment.persistence = lib.types.attrsOf (
            lib.types.tree {
              hideMounts = lib.types.bool;
              directories = lib.types.listOf lib.types.str;
              files = lib.types.listOf lib.types.str;
            }
          );
        };
    };
}
