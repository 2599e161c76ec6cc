# nix-instantiate --eval --strict --json: `values`, which values.json has to have, the boot test's `program`, and shell `scripts`.
let
  nixpkgs = (import ./nixpkgs/flake.nix).outputs { };
  inherit (nixpkgs) lib;
  flake = (import ../../flake.nix).outputs {
    self = flake;
    inherit nixpkgs;
  };
  examples = (import ../../examples/nixos-config/flake.nix).outputs {
    inherit nixpkgs;
    disko = (import ./disko/flake.nix).outputs { };
    impermanence = (import ./impermanence/flake.nix).outputs { };
  };

  # Options that were set; packages by their names.
  plain =
    value:
    if lib.isAttrs value && value ? __set then
      lib.genAttrs value.__set (name: plain value.${name})
    else if lib.isAttrs value && (value.type or null) == "derivation" then
      value.name
    else if lib.isAttrs value then
      lib.mapAttrs (_: plain) value
    else if lib.isList value then
      map plain value
    else
      value;
  system =
    { config, ... }:
    plain (
      config
      // {
        system = config.system // {
          build = "not built";
        };
      }
    );

  modules = import ../../nix/modules.nix {
    inherit lib;
    openssl.override = { static }: "openssl, ${if static then "static" else "shared"}";
    pkg-config = "pkg-config";
    rustPlatform.buildRustPackage = attributes: attributes;
    version = "0";
    static = true;
  };
  # Paths in the store without its place and their hashes.
  withoutHashes =
    text:
    lib.concatMapStringsSep "" (part: if lib.isString part then part else "STORE/") (
      builtins.split "${builtins.storeDir}/[0-9a-z]{32}-" (builtins.unsafeDiscardStringContext text)
    );
  provision =
    writeText:
    import ../../nix/provision.nix {
      inherit lib writeText;
      ansible = "ansible";
      git = "git";
      nixos-anywhere = "nixos-anywhere";
      openssh = "openssh";
      role = "ROLE";
      writeShellApplication = application: application;
    };
  role = import ../../nix/ansible-role.nix {
    modules = "MODULES";
    runCommand =
      _name: _attributes: script:
      script;
    version = "0";
  };
  profiles = (lib.importTOML ../../Cargo.toml).profile;
in
{
  values = {
    installer = lib.mapAttrs (_: system) flake.nixosConfigurations;
    examples = {
      # The others differ in their names and addresses.
      web1 = system examples.nixosConfigurations.web1;
      vault1 = system examples.nixosConfigurations.vault1;
    };
    # What they are locked to is in flake.lock.
    inputs = {
      examples = (import ../../examples/nixos-config/flake.nix).inputs;
      flake = (import ../../flake.nix).inputs;
    };
    modules = {
      inherit (modules)
        buildInputs
        cargoBuildFlags
        env
        ;
      profile = profiles.${modules.buildType}.inherits;
    };
    # With the configuration's text in the place of its path.
    provision = {
      inherit (provision (_name: text: text)) runtimeInputs;
      text = lib.filter lib.isString (
        builtins.split "\n" (withoutHashes (provision (_name: text: text)).text)
      );
    };
  };
  scripts = {
    inherit role;
    modules = modules.postInstall;
    provision = (provision (name: _text: name)).text;
  };
  program =
    (import ../../nix/boot-test.nix {
      iso = "/iso";
      fileName = "installer.iso";
      pkgs = nixpkgs.legacyPackages.x86_64-linux // {
        testers.runNixOSTest = test: test;
      };
    }).testScript;
}
