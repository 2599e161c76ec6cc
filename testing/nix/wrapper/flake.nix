# What the wrapper of the role (crates/nixos_vm_lifecycle/src/system_facts/flake.nix) gets to see: of a configuration with the guest
# module only that there are its options, and one without.
{
  outputs = _: {
    nixosConfigurations = {
      "with.guest" = {
        options.nixos-proxmox.guest.hostName = { };
        extendModules =
          { modules }:
          {
            config.name = toString (builtins.attrValues (builtins.head modules).nixos-proxmox.guest);
          };
        config.name = "no facts";
      };
      "by.hand".config.name = "built by hand";
    };
  };
}
