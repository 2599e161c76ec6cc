{
  description = "A stand-in for impermanence: its options, as far as the examples use them; see ../README.md";
  outputs =
    { ... }:
    {
      nixosModules.impermanence =
        { config, lib, ... }:
        {
          # The real one insists on this, too.
          config.assertions = map (path: {
            assertion = config.fileSystems.${path}.neededForBoot or false;
            message = "fileSystems.\"${path}\".neededForBoot has to be true";
          }) (lib.attrNames config.environment.persistence);

          options.environment.persistence = lib.mkOption {
            default = { };
            type = lib.types.attrsOf (
              lib.types.tree {
                hideMounts = lib.types.bool;
                directories = lib.types.listOf lib.types.str;
                files = lib.types.listOf lib.types.str;
              }
            );
          };
        };
    };
}
