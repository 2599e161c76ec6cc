"""The simulation itself, without a play: what a guest boots, what answers, and what its disk remembers."""

import os
import subprocess

import pytest
from simulation import Disk, World
from simulation.world import TOOLS, Refused


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("world") / "site")
    yield world
    world.end()


def ssh(machine, command, timeout=30):
    options = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=2"]
    return subprocess.run(
        ["ssh", *options, "-i", machine.world.login_key, "-p", str(machine.world.ssh_port), f"root@{machine.address}", command],
        input="os-release:\n",
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def test_a_running_vm_answers_and_a_stopped_one_does_not(world):
    web = world.machine()
    vm = world.in_production(web)
    assert "PRETTY_NAME" in ssh(web, "exec sh").stdout and vm.boots == ["installed"] and vm.disk.boots == 1
    vm.stop()
    world.wait_until(lambda: vm.vmid not in world.guests.running, "the guest to end")
    assert ssh(web, "exec sh").returncode == 255


def test_a_formatted_disk_is_lost_and_an_installed_one_boots(world):
    web = world.machine()
    vm = world.in_production(web)
    tool = [TOOLS / "nixos-anywhere", "-i", world.login_key, "-p", str(world.ssh_port), "--store-paths", "/disko", "/nix/store/new", f"root@{web.address}"]
    subprocess.run(tool, env={**os.environ, "SIMULATED_RUNS": str(world.runs)}, check=True, capture_output=True)
    assert web.runs() == [1, 1] and vm.disk.formats == 1 and vm.disk.system == "/nix/store/new"
    (loss,) = world.losses
    assert loss[0] == vm.vmid and loss[1].data == "the tenant's data"
    world.losses.clear()


def test_a_clone_takes_the_disk_along_and_a_rollback_brings_it_back(world):
    web = world.machine()
    vm = world.in_production(web, description="of then")
    snapshot = vm.snapshot()
    vm.store("newer")
    vm.set(description="of now", tags="new")
    generation = vm.config["vmgenid"]
    clone = vm.clone(f"{web.name}-clone")
    assert clone.disk.data == "newer" and clone.config["vmgenid"] != generation and not clone.running
    vm.rollback(snapshot)
    assert vm.disk.data == "the tenant's data" and vm.notes.strip() == "of now" and vm.tags == []
    assert vm.config["vmgenid"] != generation and not vm.running
    vm.start()
    vm.await_listening()


@pytest.mark.parametrize("silence", ["refuse", "hang", "stall"])
def test_a_guest_may_be_silent(world, silence):
    web = world.machine()
    web.behaves(silence=silence)
    vm = world.create(web.name)
    vm.disk = Disk(system="/nix/store/x", host_keys=[world.login_key.read_text()], address=web.inside, authorized_keys=[world.login_key_public])
    vm.start()
    world.wait_until(lambda: vm.boots, "the boot")
    if silence == "stall":
        vm.await_listening()
        with pytest.raises(subprocess.TimeoutExpired):
            ssh(web, "exec sh", timeout=2)
    else:
        assert ssh(web, "exec sh").returncode == 255
    web.behaves()
    world.wait_until(lambda: ssh(web, "exec sh").returncode == 0, "the guest to answer")
    assert vm.boots == ["installed"]


def test_a_cluster_without_quorum_refuses_writes_only(world):
    vm = world.create(world.machine().name)
    with world.without_quorum() as lose_it:
        lose_it()
        assert not vm.running
        with pytest.raises(Refused, match="no quorum"):
            vm.set(memory=512)
    vm.set(memory=512)


def test_what_a_play_leaves_alone_is_noticed(world):
    vm = world.create(world.machine().name)
    with world.untouched(vm), world.unchanged():
        pass
    with pytest.raises(AssertionError), world.untouched(vm):
        vm.set(memory=640)
