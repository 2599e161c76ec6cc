"""High availability sees to finished machines, and leaves one alone while it is installed."""

import json

from test_reinstall import confirm

HA = {"ha": {"max_restart": 2, "rule": "west", "nodes": ["pve"]}}


def known(world, machine):
    """The state in which HA knows the machine."""
    path = world.pve / "ha.json"
    resources = json.loads(path.read_text())["resources"] if path.exists() else {}
    return resources.get(f"vm:{machine.vm.vmid}", {}).get("state")


def test_ha_has_a_machine_when_it_is_finished(world):
    web = world.machine()
    states = []
    web.behaves(before={"install": lambda: states.append(known(world, web))})
    made = web.play(nixos_vm_vm_options=HA).succeeded()
    assert web.vm.record["phase"] == "done", made.output
    assert (states, known(world, web)) == ([None], "started")
    assert web.play(nixos_vm_vm_options=HA).succeeded().changed == 0
    # Who leaves it out leaves it as it is.
    assert web.play().succeeded().changed == 0
    world.guests.given_up.add(web.vm.vmid)
    web.play(*confirm(web), nixos_vm_vm_options=HA).succeeded()
    assert (states, known(world, web)) == ([None, "ignored"], "started")
    assert web.vm.running and web.vm.disk.formats == 2
    rules = json.loads((world.pve / "ha.json").read_text())["rules"]
    assert rules["west"]["resources"] == f"vm:{web.vm.vmid}"
    assert web.play(nixos_vm_vm_options=HA).succeeded().changed == 0


def test_what_ha_cannot_do_is_said_before_the_installation(world):
    web = world.machine()
    contradiction = {"ha": {"state": "stopped"}}
    web.play(nixos_vm_vm_options=contradiction).refused("ha.state: stopped would stop the VM, against state: started")
    web.play(nixos_vm_vm_options={"ha": {"group": "west"}}, nixos_vm_state="stopped").refused("this cluster has no HA groups")
    assert not web.vms
