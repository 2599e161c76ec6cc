# Not a flake that Nix could build: it marks this directory as one for the stand-in of nix in
# testing/stand-in, which reads stand-in.json. A flake to install for real is in examples/.
{
  outputs =
    { ... }:
    throw "this is the demo's stand-in for a flake; see examples/nixos-config for a real one";
}
