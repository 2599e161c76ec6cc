# Generated. Adds what the inventory knows of a machine (facts.json) to its configuration (machine.json), if that has
# nixosModules.guest of nixos-proxmox; any other configuration is passed on as it is.
{
  # Given with --override-input.
  inputs.machines.url = "flake:machines";

  outputs =
    { machines, ... }:
    let
      read = file: builtins.fromJSON (builtins.readFile file);
      facts = read ./facts.json;
      inherit (read ./machine.json) name;

      configurations = machines.nixosConfigurations or { };
      machine =
        configurations.${name}
          or (throw "the flake has no nixosConfigurations.${name} (available: ${toString (builtins.attrNames configurations)})");

      guest = machine.options.nixos-proxmox.guest or { };
      # A module that is older than the role does not know all facts.
      module = {
        _file = "the facts of the inventory (nixos_vm_system_facts)";
        nixos-proxmox.guest = builtins.intersectAttrs guest facts;
      };
    in
    {
      nixosConfigurations = configurations // {
        ${name} = if guest == { } then machine else machine.extendModules { modules = [ module ]; };
      };
    };
}
