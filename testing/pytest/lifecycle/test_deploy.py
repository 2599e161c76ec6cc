"""Deployments by the role: to finished machines only, with a snapshot if it is wanted, and killed anywhere without one left over."""

import threading
import time

import pytest

# Its disks can have snapshots.
DISKS = {"nixos_vm_disks_storage": "local-zfs"}


def installed(world, flake, **variables):
    web = world.machine(nixos_vm_flake=flake.uri, nixos_vm_deploy_timeout=5, **DISKS, **variables)
    web.play().succeeded()
    return web


def snapshots(web):
    return [name for name in web.vm.file.read_text().split("\n") if name.startswith("[")]


def deploy(web, *flags, **variables):
    return web.play(*flags, playbook="playbooks/deploy.yml", **variables)


def test_a_change_of_the_flake_is_deployed_once(world, flake):
    web = installed(world, flake)
    old = web.vm.disk.system
    assert deploy(web).succeeded().changed == 0
    flake(2)
    shown = deploy(web, "--check", "--diff").succeeded()
    assert shown.changed == 1 and f'-    "system": "{old}"' in shown.output, shown.output
    assert web.vm.disk.system == old
    assert deploy(web).succeeded().changed == 1
    assert web.vm.disk.system != old
    assert deploy(web).succeeded().changed == 0
    # The play that made the machine does it, too, and says nothing of it without the variable.
    flake(3)
    new = web.vm.disk.system
    assert web.play().succeeded().changed == 0 and web.vm.disk.system == new
    assert web.play(nixos_vm_deploy=True).succeeded().changed == 1
    assert web.vm.disk.system != new
    assert web.play(nixos_vm_deploy=True).succeeded().changed == 0
    assert web.vm.disk.formats == 1


def test_a_snapshot_is_there_while_it_is_deployed_and_gone_afterwards(world, flake):
    web = installed(world, flake, nixos_vm_deploy_snapshot=True)
    assert deploy(web).succeeded().changed == 0 and snapshots(web) == []
    flake(2)
    seen = []
    web.behaves(before={"deploy": lambda: seen.append(snapshots(web))})
    deploy(web).succeeded()
    assert len(seen[0]) == 1 and seen[0][0].startswith("[nixos-deploy-")
    assert snapshots(web) == []
    for version in (3, 4, 5):
        flake(version)
        deploy(web, nixos_vm_deploy_snapshots_kept=2).succeeded()
    assert len(snapshots(web)) == 2


def test_a_deployment_that_is_undone_is_reported_and_its_snapshot_deleted_by_the_next(world, flake):
    web = installed(world, flake, nixos_vm_deploy_snapshot=True)
    old = web.vm.disk.system
    flake(2)
    web.behaves(fails=("deploy",))
    deploy(web).refused("units failed: nginx.service", "the snapshot nixos-deploy-")
    assert web.vm.disk.system == old and len(snapshots(web)) == 1
    web.behaves()
    deploy(web).succeeded()
    assert web.vm.disk.system != old and snapshots(web) == []


def test_a_machine_that_does_not_come_back_is_rolled_back_if_that_is_asked_for(world, flake):
    web = installed(world, flake, nixos_vm_deploy_snapshot=True, nixos_vm_deploy_rollback=True, nixos_vm_install_timeout=30)
    old, formats = web.vm.disk.system, web.vm.disk.formats
    flake(2)

    def lost():
        web.behaves(silence="refuse")
        # The rollback stops the VM.
        threading.Thread(target=lambda: (world.wait_until(lambda: not web.vm.running, "the rollback", 290), web.behaves())).start()
        time.sleep(1)

    web.behaves(before={"deploy": lost})
    deploy(web).refused("was rolled back to the snapshot nixos-deploy-")
    assert web.vm.disk.system == old and web.vm.disk.formats == formats and web.vm.running
    assert any(request["path"].endswith("/rollback") for request in world.requests())
    assert web.vm.record["phase"] == "done"
    deploy(web).succeeded()
    assert web.vm.disk.system != old and snapshots(web) == []


def test_only_finished_machines_get_one(world, flake):
    web = world.machine(nixos_vm_flake=flake.uri)
    web.behaves(fails=("install",))
    web.play()
    web.behaves()
    deploy(web).refused("its phase is 'installing'")
    other = world.machine(nixos_vm_flake=flake.uri)
    deploy(other).refused("it does not exist yet")
    assert other.vms == []


def test_a_vm_of_somebody_else_is_not_deployed_to(world, flake):
    """Neither one that was made by hand under the host's name, nor a clone of the machine that took its name."""
    web = world.machine(nixos_vm_flake=flake.uri)
    vm = world.create(web.name)
    with world.untouched(vm):
        deploy(web).refused(str(vm.vmid))
    other = installed(world, flake)
    old = other.vm
    clone = old.clone("copy")
    old.set(name="renamed")
    clone.set(name=other.name)
    flake(2)
    with world.untouched(old, clone):
        deploy(other).refused(str(clone.vmid))


def test_mistakes_are_named(world, flake):
    web = installed(world, flake)
    deploy(web, nixos_vm_deploy_rollback=True).refused("nixos_vm_deploy_rollback: requires nixos_vm_deploy_snapshot")
    deploy(web, nixos_vm_deploy_action="swich").refused("nixos_vm_deploy_action")


@pytest.mark.parametrize("stride", [10])
def test_a_deployment_that_is_killed_at_any_call_is_taken_up(world, flake, stride):
    web = installed(world, flake, nixos_vm_deploy=True, nixos_vm_deploy_snapshot=True)
    version, call = 1, 1
    while True:
        version += 1
        flake(version)
        ran_on = world.controller.cut([web], call, after_effect=version % 2 > 0)
        web.play().succeeded()
        assert snapshots(web) == [] and web.vm.record["phase"] == "done"
        assert web.play().succeeded().changed == 0
        if not ran_on:
            break
        call += stride
    assert web.vm.disk.formats == 1
