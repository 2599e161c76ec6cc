# legacyPackages.<system>: names of packages, and the functions that make some.
{ lib, system }:
let
  # Never built. What it was made from is part of it, so that all of it is evaluated.
  make =
    name: inputs:
    let
      package =
        derivation {
          inherit name system;
          builder = "/bin/sh";
          args = [
            "-c"
            "echo this is a stand-in; exit 1"
          ];
          inputs = map (input: "${toString input}") inputs;
        }
        // {
          inherit name;
        };
    in
    package;

  named = lib.genAttrs [
    "ansible"
    "ansible-lint"
    "cargo"
    "clippy"
    "cpio"
    "cryptsetup"
    "curl"
    "deadnix"
    "disko"
    "dmidecode"
    "gcc"
    "git"
    "gnutar"
    "htop"
    "hyperv-daemons"
    "jq"
    "molecule"
    "nano"
    "ncdu"
    "nixfmt"
    "nixfmt-tree"
    "nixos-anywhere"
    "nixos-facter"
    "openssh"
    "openssl"
    "pkg-config"
    "qemu"
    "qemu_test"
    "rsync"
    "rustc"
    "rustfmt"
    "typos"
    "vim"
    "xen-guest-agent"
    "xorriso"
    "yamllint"
    "zstd"
  ] (name: make name [ ]);

  withOverride =
    f: attributes:
    f attributes
    // {
      overrideAttrs =
        change:
        let
          old = {
            nativeBuildInputs = [ ];
          }
          // attributes;
        in
        withOverride f (old // change old);
    };

  pkgs = named // {
    inherit lib pkgs;
    stdenv.hostPlatform = {
      inherit system;
      isx86_64 = system == "x86_64-linux";
      isAarch64 = system == "aarch64-linux";
    };
    pkgsCross = {
      musl64 = pkgs;
      aarch64-multiplatform-musl = pkgs;
    };
    python3Packages.pytest = make "pytest" [ ];
    openssl = named.openssl // {
      override = { static }: make "openssl" [ static ];
    };

    callPackage =
      package: given:
      let
        f = if lib.isFunction package then package else import package;
        wanted = builtins.functionArgs f;
        argument =
          name:
          given.${name} or pkgs.${name}
            or (throw "callPackage: ${toString package} wants `${name}', which is not a package");
        unknown = lib.filter (name: !(wanted ? ${name})) (lib.attrNames given);
      in
      if unknown != [ ] then
        throw "callPackage: ${toString package} does not take `${lib.head unknown}'"
      else
        f (
          lib.genAttrs (lib.filter (name: !wanted.${name} || given ? ${name} || pkgs ? ${name}) (
            lib.attrNames wanted
          )) argument
        );

    mkShell =
      {
        packages,
        shellHook ? "",
      }:
      make "shell" (packages ++ [ shellHook ]);
    rustPlatform.buildRustPackage = withOverride (
      attributes:
      make "${attributes.pname}-${attributes.version}" (
        attributes.nativeBuildInputs
        ++ attributes.buildInputs
        ++ attributes.cargoBuildFlags
        ++ [
          attributes.src
          attributes.cargoLock.lockFile
          attributes.postInstall
          (attributes.buildPhase or "")
        ]
      )
      // {
        inherit (attributes) meta;
      }
    );
    runCommand =
      name:
      {
        nativeBuildInputs ? [ ],
      }:
      script: make name (nativeBuildInputs ++ [ script ]);
    writeText = name: text: make name [ text ];
    writeShellApplication =
      {
        name,
        runtimeInputs ? [ ],
        text,
      }:
      make name (runtimeInputs ++ [ text ]) // { meta.mainProgram = name; };
    testers.runNixOSTest =
      {
        name,
        nodes,
        testScript,
      }:
      make "vm-test-run-${name}" (lib.attrValues nodes ++ [ testScript ]);
  };
in
pkgs
