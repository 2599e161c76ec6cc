"""Machines of the role in the inventory plugin: their phase, and the host keys that this controller knows."""

import json
import shlex
import subprocess

import yaml
from simulation.world import PROJECT

STOCK = {"finished": 2}


def listed(world):
    """What the plugin lists on the controller that made the machines."""
    file = world.path / "x.nixos_proxmox.yml"
    config = {"plugin": "nixos_proxmox", **world.connection, "want_facts": True, "state_root": str(world.controller.state)}
    file.write_text(yaml.safe_dump(config))
    command = ["ansible-inventory", "-i", file, "--list"]
    own = world.controller.environment()
    done = subprocess.run(command, cwd=PROJECT, env=own, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    return answer["_meta"]["hostvars"], answer


def log_in(machine, variables, world):
    arguments = shlex.split(variables["ansible_ssh_common_args"])
    command = ["ssh", "-o", "BatchMode=yes", "-o", "GlobalKnownHostsFile=/dev/null", *arguments, "-i", world.login_key, "-p", str(world.ssh_port)]
    return subprocess.run([*command, f"root@{machine.address}", "true"], capture_output=True, text=True, timeout=60, check=False)


def test_a_finished_machine_is_listed_with_its_phase_and_its_key(world, stock):
    one, other = (stock.take("finished", "done") for _ in range(2))
    # Proxmox VE knows the names of new VMs some seconds later.
    world.wait_until(lambda: {one.name, other.name} <= set(listed(world)[0]), "the machines in the inventory")
    hosts, groups = listed(world)
    assert hosts[one.name]["proxmox_phase"] == "done" and {one.name, other.name} <= set(groups["proxmox_phase_done"]["hosts"])
    assert "nixos-proxmox" not in hosts[one.name].get("proxmox_description", "")
    assert log_in(one, hosts[one.name], world).returncode == 0
    # Whoever answers in its place is not let in.
    refused = log_in(other, hosts[one.name], world)
    assert refused.returncode == 255 and "Host key verification failed" in refused.stderr, refused.stderr
