"""New machines whose inventory names no node: the role chooses one, once."""

import json
from collections import Counter

NODES = ("pve", "b", "c")
GIB = 1 << 30
# The group of all machines names a node.
ANYWHERE = {"nixos_vm_node": ""}


def memory(world, **free):
    """What the nodes say of their memory, in GiB."""
    nodes = {node: {"maxmem": 64 * GIB, "mem": (64 - gib) * GIB} for node, gib in free.items()}
    (world.pve / "nodes.json").write_text(json.dumps(nodes))


def nodes(machines):
    return Counter(machine.vm.node for machine in machines)


def test_two_dozen_machines_are_spread_over_three_nodes(world):
    memory(world, pve=60, b=20, c=40)
    machines = [world.machine("spread", **ANYWHERE) for _ in range(24)]
    world.controller.play(machines, "--tags", "image,upload,provision", nixos_vm_spread="nixos_vms").succeeded()
    # Hosts that choose at the same moment know of each other, before Proxmox VE knows their VMs.
    assert nodes(machines) == {"pve": 8, "b": 8, "c": 8}
    # Each has its installer on its own node.
    assert {machine.vm.config["ide2"].split(",")[0] for machine in machines} == {"local:iso/installer.iso"}
    assert not list(world.controller.state.glob("*/node"))


def test_without_a_group_the_free_memory_counts(world):
    memory(world, pve=60, b=20, c=58)
    large = [world.machine("large", **ANYWHERE, nixos_vm_memory=8192) for _ in range(6)]
    world.controller.play(large, "--tags", "image,upload,provision").succeeded()
    assert nodes(large)["b"] == 0 and nodes(large)["c"] in (2, 3, 4), nodes(large)


def test_a_machine_stays_where_it_was_to_be_made(world):
    memory(world, pve=20, b=60, c=20)
    web = world.machine(**ANYWHERE)
    checked = web.play("--check", "-v").succeeded()
    assert " on b" in checked.output and not web.state().exists()
    # The installer is on that node when the run ends.
    assert world.controller.cut([web], 0, after_effect=False)
    assert (web.state() / "node").read_text().strip() == "b"
    memory(world, pve=60, b=30, c=20)
    web.play().succeeded()
    assert web.vm.node == "b" and web.vm.record["phase"] == "done"
    assert not (web.state() / "node").exists()
    # It is managed where it is.
    assert web.play().succeeded().changed == 0
    assert web.with_variables(nixos_vm_nodes=["c"]).play().succeeded().changed == 0
    web.destroy().succeeded()
    assert not web.state().exists()


def test_which_nodes_a_machine_may_come_to(world):
    memory(world, pve=60, b=20, c=20)
    web = world.machine(**ANYWHERE, nixos_vm_nodes=["b"])
    web.with_variables(nixos_vm_nodes=["d"]).play().refused("nixos_vm_nodes: d does not exist (online: pve, b, c)")
    web.with_variables(nixos_vm_spread="others").play().refused("nixos_vm_spread: others must be an inventory group that")
    web.with_variables(nixos_vm_disks_storage="nowhere").play().refused("nixos_vm_disks_storage: storage nowhere does not exist on node b")
    assert not web.state().exists()
    web.play("--tags", "image,upload,provision").succeeded()
    assert web.vm.node == "b"


def test_a_machine_whose_vm_is_gone_is_destroyed_wherever_it_was(world):
    memory(world, pve=20, b=60, c=20)
    web = world.machine(**ANYWHERE)
    web.play("--tags", "image,upload,provision").succeeded()
    vm = web.vm
    assert vm.node == "b"
    world.finish(world.api("DELETE", f"/nodes/b/qemu/{vm.vmid}"))
    seeds = list(world.pve.glob("nodes/b/storage/local/template/iso/nixos-proxmox-seed-*"))
    web.destroy().succeeded()
    assert not web.state().exists()
    assert seeds and not any(seed.exists() for seed in seeds if f"-{vm.vmid}-" in seed.name)
    # One that was chosen for and not made leaves nothing either.
    other = world.machine(**ANYWHERE)
    assert world.controller.cut([other], 0, after_effect=False)
    assert (other.state() / "node").exists()
    other.destroy().succeeded()
    assert not other.state().exists()
