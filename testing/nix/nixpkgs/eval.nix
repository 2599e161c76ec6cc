# nixosSystem: collects the modules, and evaluates their definitions against the table of options.
{ lib }:
let
  inherit (lib) types;

  # Looks at every value that was set.
  force =
    value:
    if lib.isAttrs value && value ? __set then
      lib.foldl' (done: name: builtins.seq (force value.${name}) done) true value.__set
    else if lib.isAttrs value && (value.type or null) == "derivation" then
      builtins.seq value.drvPath true
    else if lib.isAttrs value then
      lib.foldl' (done: name: builtins.seq (force value.${name}) done) true (lib.attrNames value)
    else if lib.isList value then
      lib.foldl' (done: item: builtins.seq (force item) done) true value
    else
      builtins.seq value true;

  nixosSystem =
    {
      modules,
      specialArgs ? { },
    }:
    let
      arguments = {
        inherit config lib pkgs;
        options = { };
        modulesPath = toString ./nixos/modules;
      }
      // specialArgs;

      # A module with all that it imports, as a list of { file, options, config }.
      collect =
        parent: module:
        let
          isFile = builtins.isPath module || lib.isString module;
          file = if isFile then toString module else parent;
          loaded = if isFile then import module else module;
          body = if lib.isFunction loaded then call file loaded else loaded;
          plain = !(body ? config || body ? options);
          content = {
            inherit file;
            options = body.options or { };
            config =
              if plain then
                removeAttrs body [
                  "imports"
                  "_file"
                  "key"
                ]
              else
                body.config or { };
          };
          stray = lib.filter (
            name:
            !(lib.elem name [
              "_file"
              "config"
              "imports"
              "key"
              "options"
            ])
          ) (lib.attrNames body);
        in
        if !plain && stray != [ ] then
          throw "module ${file}: ${lib.head stray} stands beside config or options"
        else
          [ content ] ++ lib.concatMap (collect file) (body.imports or [ ]);

      call =
        file: module:
        let
          wanted = builtins.functionArgs module;
          missing = lib.filter (name: !wanted.${name} && !(arguments ? ${name})) (lib.attrNames wanted);
        in
        if missing != [ ] then
          throw "module ${file} wants an argument `${lib.head missing}', which nobody gives"
        else
          module arguments;

      all = lib.concatMap (collect "a module given in place") (modules ++ [ ./nixos/modules/base.nix ]);

      options = lib.foldl' (known: module: lib.recursiveUpdate known module.options) (import ./options.nix
        { inherit lib types; }
      ) all;

      config = types.mergedSet [ ] (types.tree options) (
        map (module: {
          inherit (module) file;
          value = module.config;
        }) all
      );

      pkgs = import ./packages.nix {
        inherit lib;
        system = config.nixpkgs.hostPlatform;
      };

      broken = lib.filter (entry: !entry.assertion) config.assertions;
      checked =
        if broken != [ ] then
          throw "Failed assertion: ${(lib.head broken).message}"
        else
          force (config // { __set = lib.filter (name: name != "system") config.__set; })
          && force (
            removeAttrs config.system [ "build" ]
            // {
              __set = lib.filter (name: name != "build") config.system.__set;
            }
          );
    in
    {
      inherit options pkgs;
      config = config // {
        system = config.system // {
          build = lib.mapAttrs (
            name: value: if checked then value else throw "system.build.${name}"
          ) config.system.build;
        };
      };
      extendModules =
        more:
        nixosSystem {
          modules = modules ++ more.modules or [ ];
          specialArgs = specialArgs // more.specialArgs or { };
        };
    };
in
nixosSystem
