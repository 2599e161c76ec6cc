"""The kill matrix on simulated guests: a run is killed at every call, and the next one goes on from there.

One machine's play is killed at its first call, then at its second, and so on. Counting starts anew when the
machine's phase has moved, so each call of each phase is hit. The run that no longer meets its call must leave
the machine finished, and no disk that was in use may have been formatted.
"""

import pytest
from simulation import World
from simulation.reinstallation import cut_off_everywhere


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path / "site")
    yield world
    world.end()


def phase(machine):
    return machine.vm.record.get("phase") if machine.vms else None


def cut_off_everywhere_until_done(world, web, stride):
    call, turn, seen = 0, 0, None
    while world.controller.cut([web], call, after_effect=turn % 3 > 0):
        print(f"turn {turn}, call {call}: {phase(web)}, runs of nixos-anywhere {web.runs()}", flush=True)
        assert len(web.vms) <= 1 and len(world.vms()) <= 2 and world.losses == []
        turn, call = turn + 1, call + stride
        if phase(web) != seen:
            seen, call = phase(web), 1 + turn % stride
    assert phase(web) == "done" and web.vm.disk.system and web.vm.running
    with world.untouched(web.vm), world.unchanged():
        assert web.play().succeeded().changed == 0
    assert world.losses == [] and world.controller.files_with("PRIVATE KEY") == []


@pytest.mark.parametrize("stride", [1, pytest.param(7, marks=pytest.mark.sample)])
def test_a_run_that_is_killed_at_any_call_is_taken_up(world, stride):
    web = world.machine()
    cut_off_everywhere_until_done(world, web, stride)
    assert "media=cdrom" not in web.vm.text


@pytest.mark.parametrize("stride", [1, pytest.param(9, marks=pytest.mark.sample)])
def test_a_machine_from_a_disk_image_is_taken_up_wherever_its_run_is_killed(world, stride):
    web = world.machine(**world.from_image())
    cut_off_everywhere_until_done(world, web, stride)
    seeds = list(world.pve.rglob("nixos-proxmox-seed-*"))
    assert len(seeds) == 1 and not world.private_keys_in(seeds[0])
    assert "installer" not in web.vm.boots and len(list(world.pve.rglob("vm-*-disk-*"))) == 1


def test_a_linked_clone_is_taken_up_wherever_its_run_is_killed(world):
    linked = {"nixos_vm_disk_image_template": True, "nixos_vm_disks_storage": "local-zfs"}
    web = world.machine(**world.from_image(), **linked)
    cut_off_everywhere_until_done(world, web, 1)
    assert web.vm.record["uuid"] in web.vm.config["smbios1"]
    # The machine and one template.
    assert [vm.config.get("template") for vm in world.vms() if vm.vmid != web.vm.vmid] == ["1"]


def test_a_reinstallation_that_is_killed_at_any_call_is_taken_up(world):
    cut_off_everywhere(world, 1)
