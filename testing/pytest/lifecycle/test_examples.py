"""The inventories of examples/ as they are, on simulated guests: only where the API, the storages and the guests are is another."""

import json
import os
import subprocess

import yaml
from conftest import PROJECT
from project import TESTHOST
from simulation.world import Machine

EXAMPLES = PROJECT / "examples"
NODES = ("pve", "b", "c")


def described(example):
    listed = subprocess.run(["ansible-inventory", "-i", EXAMPLES / example, "--list"], capture_output=True, text=True, check=True)
    return json.loads(listed.stdout)["_meta"]["hostvars"]


class Example:
    """An example's inventory, and one more that moves its machines to the test host."""

    def __init__(self, name, world, **variables):
        self.world = world
        self.inventory = EXAMPLES / name
        kept = {key: value for key, value in world.variables().items() if not key.startswith(("nixos_vm_node", "nixos_vm_memory"))}
        here = {**kept, "nixos_vm_memory": 512, "nixos_vm_state_root": str(world.controller.state), **variables}
        self.machines = {host: Machine(world, host, next(world.numbers)) for host in described(name)}
        moved = {host: {**here, **machine.host_variables} for host, machine in self.machines.items()}
        self.moved = world.path / f"{name}.yml"
        self.moved.write_text(yaml.safe_dump({"nixos_vms": {"hosts": moved}}))

    def play(self):
        return self.world.controller.run(self.inventory, "-i", self.moved).succeeded()


def test_a_cluster_with_shared_storage(world):
    cluster = Example("cluster", world, nixos_vm_disks_storage="shared", nixos_vm_iso_storage="shared")
    cluster.play()
    databases = [cluster.machines[name].vm for name in ("db1", "db2", "db3")]
    assert {vm.node for vm in databases} == {"pve", "b", "c"}
    assert all(machine.vm.record["phase"] == "done" for machine in cluster.machines.values())
    ha = json.loads((world.pve / "ha.json").read_text())
    assert sorted(ha["rules"]["databases-apart"]["resources"].split(",")) == sorted(f"vm:{vm.vmid}" for vm in databases)
    assert all(ha["resources"][f"vm:{vm.vmid}"]["state"] == "started" for vm in databases)
    assert cluster.play().changed == 0


def test_a_fleet_of_linked_clones(world):
    image = {**world.from_image(), "nixos_vm_disk_image_source": "path", "nixos_vm_disk_image_flake": ""}
    fleet = Example("fleet", world, **image, nixos_vm_node="pve", nixos_vm_iso_storage="local", nixos_vm_disks_storage="local-zfs")
    fleet.play()
    (template,) = [vm for vm in world.vms() if vm.config.get("template") == "1"]
    for machine in fleet.machines.values():
        assert machine.vm.record["phase"] == "done" and f"base-{template.vmid}-disk-0" in machine.vm.config["scsi0"]
    assert fleet.play().changed == 0


def test_an_inventory_is_tried_in_ci(tmp_path):
    """With stand-ins for Nix, and secrets that are not used."""
    (tmp_path / "ci.yml").write_text(
        json.dumps(
            {
                "nixos_vm_tools_path": str(PROJECT / "testing/stand-in"),
                "nixos_vm_flake": f"{PROJECT}/testing/demo/flake#web",
                "vault_pve_token": "not used here",
            }
        )
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "PROXMOX_"))}
    environment |= {"PVE_TESTHOST": TESTHOST, "TMPDIR": str(tmp_path), "HOME": str(tmp_path), "PATH": f"{PROJECT}/.venv/bin:{os.environ['PATH']}"}
    done = subprocess.run(
        [EXAMPLES / "ci/check.sh", PROJECT, EXAMPLES / "cluster", "-e", f"@{tmp_path}/ci.yml"],
        env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("PLAY RECAP") == 2 and "failed=1" not in done.stdout
    # Nothing is left: no host, no key.
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("tmp")] == []
