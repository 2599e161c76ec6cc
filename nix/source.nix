# What the Rust workspace is built from: nothing else makes it build again.
{ lib }:
lib.fileset.toSource {
  root = ../.;
  fileset = lib.fileset.unions [
    ../.cargo
    ../Cargo.lock
    ../Cargo.toml
    ../crates
    ../docs/privileges.md # tests hold the modules to it
    ../testing/module-lab
    ../testing/pve-testhost
    ../testing/seed-init
  ];
}
