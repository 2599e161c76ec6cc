"""Machines that proxmox_snapshot rolls back: a snapshot brings no phase of an installation back."""

# Its disks can have snapshots; those of the other tests are raw images in a directory.
DISKS = {"nixos_vm_disks_storage": "local-zfs"}


def snapshot(world, vmid, name, **options):
    return world.controller.module("proxmox_snapshot", vmid=vmid, snapname=name, timeout=100, **options)


def made(world, vmid, name, **options):
    answer = snapshot(world, vmid, name, **options)
    assert answer["changed"] and not answer["failed"], answer
    return answer


def refused(world, vmid, name, **options):
    answer = snapshot(world, vmid, name, **options)
    assert answer["failed"] and answer["error"]["kind"] == "installing", answer
    return answer


def test_a_machine_rolled_back_into_its_installation_is_not_installed_again(world):
    web = world.machine(**DISKS)
    answers = []

    def in_the_middle():
        answers.append(refused(world, web.vm.vmid, "mid"))
        answers.append(made(world, web.vm.vmid, "mid", allow_during_installation=True))

    web.behaves(before={"format": in_the_middle})
    web.play().succeeded()
    web.behaves()
    assert len(answers) == 2 and "phase 'installing'" in answers[0]["msg"]
    vm, runs = web.vm, web.runs()
    formats = vm.disk.formats
    assert vm.record["phase"] == "done"
    made(world, vm.vmid, "mid", state="rolled_back")
    # What was attached then is attached again, and the phase is that of today.
    assert "media=cdrom" in vm.text and vm.record["phase"] == "done"
    emptied = vm.disk.formats
    assert emptied < formats
    web.play(nixos_vm_boot_timeout=3)
    assert vm.disk.formats == emptied and web.runs() == runs
    assert vm.record["phase"] == "done"


def test_a_machine_rolled_back_under_way_is_refused_by_the_role(world):
    web = world.machine(**DISKS)
    web.behaves(fails=("install",))
    web.play()
    web.behaves()
    vm = web.vm
    assert vm.record["phase"] == "installing"
    refused(world, vm.vmid, "mid")
    made(world, vm.vmid, "mid", allow_during_installation=True)
    made(world, vm.vmid, "mid", state="rolled_back", allow_during_installation=True)
    with world.untouched(vm), world.unchanged():
        web.play().refused(str(vm.vmid), "rolled back")
    # No run goes on with it, so its snapshots are its user's again.
    made(world, vm.vmid, "mid", state="absent")
