"""Whose machine it is: names, tags and copied notes prove nothing."""

import re
import uuid

import pytest

HANDMADE = {
    "memory": 1024,
    "cores": 4,
    "ostype": "win11",
    "machine": "q35",
    "scsihw": "pvscsi",
    "scsi1": "local:1",
    "net0": "e1000=BC:24:11:00:00:01,bridge=vmbr0,tag=42,firewall=1",
    "boot": "order=scsi0",
    "tags": "prod;erp;backup-daily",
    "description": "ERP. Do NOT reboot without calling Anna +49 30 1234.",
    "onboot": 0,
    "vga": "qxl",
}
STOCK = {"finished": 6, "half_written": 2, "provisioned": 1}
OLD_TAGS = ["nixos-installing", "nixos-installing;nixos-run-00000000", "nixos-provisioning", "nixos-installed", "nixos-installed;nixos-provisioning"]


def test_vms_of_that_name_are_nobodys_to_take(world):
    """Made by hand, with and without the tags that once were the role's."""
    hosts = [world.machine() for _ in range(1 + len(OLD_TAGS))]
    vms = [world.in_production(hosts[0], **HANDMADE)]
    vms += [world.in_production(host, tags=tags) for host, tags in zip(hosts[1:], OLD_TAGS, strict=True)]
    with world.untouched(*vms), world.unchanged():
        world.controller.play(hosts, "--check", "--diff").refused()
        play = world.controller.play(hosts).refused()
    for host, vm in zip(hosts, vms, strict=True):
        message = " ".join(play.failures[host.name])
        assert "nixos_vm_adopt" in message and str(vm.vmid) in message, message
        assert not [path for path in host.state().rglob("*") if path.is_file()]


def test_an_adopted_vm_gets_what_its_user_described_and_nothing_else(world):
    web = world.machine(nixos_vm_adopt=True, nixos_vm_tags=["web"], nixos_vm_cores=2)
    vm = world.in_production(web, **HANDMADE)
    before, disk, boots = vm.config, vm.disk, vm.boots
    unset = {"nixos_vm_memory": ..., "nixos_vm_cpu": ...}
    web.play(**unset).succeeded()
    after = vm.config
    # It runs, so its cores wait for the next start.
    assert "\n[PENDING]\ncores: 2\n" in vm.file.read_text() and after.pop("cores") == "4"
    assert sorted(after.pop("tags").split(";")) == ["backup-daily", "erp", "prod", "web"]
    assert {key: value for key, value in before.items() if key not in ("cores", "tags")} == after
    assert vm.notes.startswith(HANDMADE["description"]) and vm.record["phase"] == "adopted"
    assert vm.disk == disk and vm.boots == boots
    assert web.play(**unset).succeeded().changed == 0
    # From then on the record speaks for it.
    assert web.with_variables(nixos_vm_adopt=...).play(**unset).succeeded().changed == 0


def test_a_clone_of_a_finished_machine_is_not_the_role_s(world, finished):
    web, other = finished, world.machine()
    clone = web.vm.clone(other.name)
    clone.store("the clone's data")
    with world.untouched(web.vm, clone), world.unchanged():
        play = other.play().refused(str(clone.vmid), "nixos_vm_adopt")
        # The record in the notes says where the clone came from.
        assert web.name in play.message
    assert web.play().succeeded().changed == 0


def test_a_clone_of_a_machine_under_way_is_not_the_role_s(world, half_written):
    web, other = half_written, world.machine()
    web.vm.stop()
    clone = web.vm.clone(other.name)
    clone.store("the clone's data")
    with world.untouched(clone):
        other.play().refused(str(clone.vmid))
        web.play().succeeded()
    assert web.vm.record["phase"] == "done"


def test_a_renamed_clone_beside_its_original(world, finished):
    """Somebody renames the original and gives its name to the clone: the record still is the original's."""
    original = finished.vm
    clone = original.clone("clone")
    original.set(name="old")
    clone.set(name=finished.name)
    with world.untouched(original, clone), world.unchanged():
        finished.play().refused(str(clone.vmid))


def test_copied_notes_are_nobody_s_record(world, finished):
    """Pasted into another VM, and on a new VM that has the number of a destroyed one."""
    web, other = finished, world.machine()
    notes = web.vm.notes
    pasted = world.in_production(other, description=notes)
    with world.untouched(pasted), world.unchanged():
        other.play().refused(str(pasted.vmid), "nixos_vm_adopt")
    vmid = web.vm.vmid
    web.vm.destroy()
    again = world.create(web.name, vmid=vmid, description=notes)
    again.store("another machine's data")
    with world.untouched(again), world.unchanged():
        web.play().refused(str(vmid), "nixos_vm_adopt")


def test_another_host_s_machine_that_got_this_name(world, finished):
    other, vm = world.machine(), finished.vm
    vm.set(name=other.name)
    with world.untouched(vm), world.unchanged():
        other.play().refused(str(vm.vmid), finished.name)


@pytest.mark.parametrize("kind", ["half_written", "provisioned"])
def test_a_machine_that_was_rolled_back_under_way_is_refused(world, request, kind):
    web = request.getfixturevalue(kind)
    web.vm.rollback(web.vm.snapshot())
    with world.untouched(web.vm), world.unchanged():
        web.play().refused(str(web.vm.vmid), "rolled back")


@pytest.fixture(scope="module")
def kept(site):
    """Two machines in production, with what they were in the middle of their installations."""
    machines = [site.machine(), site.machine()]
    then = {}
    for machine in machines:
        machine.behaves(before={"format": lambda machine=machine: then.update({machine.name: machine.vm.snapshot()})})
    site.controller.play(machines).succeeded()
    for machine in machines:
        machine.behaves()
        machine.vm.store("three weeks of production")
    return [(machine, then[machine.name]) for machine in machines]


def test_a_machine_in_production_that_was_rolled_back_into_its_installation(world, kept):
    """The notes are those of today, so the machine is finished; what the disk holds is for its user to restore."""
    web, snapshot = kept[0]
    vm = web.vm
    vm.rollback(snapshot)
    formats = vm.disk.formats
    web.play(nixos_vm_boot_timeout=3)
    assert vm.disk.formats == formats and vm.record["phase"] == "done"


def test_a_backup_of_a_machine_under_way_that_was_restored(world, kept):
    """A restored backup brings its notes back, with the phase of then."""
    web, (text, _) = kept[1]
    vm = web.vm
    vm.stop()
    # As `qmrestore` onto the same VMID does it: the SMBIOS UUID is the backup's, the vmgenid is new.
    vm.file.write_text(re.sub(r"^vmgenid: .*", f"vmgenid: {uuid.uuid4()}", text, flags=re.M))
    assert vm.record["phase"] == "installing"
    with world.untouched(vm), world.unchanged():
        web.play().refused(str(vm.vmid))


def test_what_colleagues_add_to_a_finished_machine_stays(world, finished):
    """Notes, tags and options that the inventory does not describe."""
    web = finished.with_variables(nixos_vm_tags=["web"])
    web.play().succeeded()
    vm = web.vm
    assert vm.tags == ["web"]
    vm.set(tags="web;backup;team-a", description=f"Call Anna first.\n\n{vm.notes}", startup="order=3", onboot=0)
    with world.untouched(vm), world.unchanged():
        assert web.play().succeeded().changed == 0
    # Notes that lost the record get it back, and keep what they say.
    vm.set(description="Call Anna first.")
    web.play().succeeded()
    assert vm.notes.startswith("Call Anna first.") and vm.record["phase"] == "done"
    assert sorted(vm.tags) == ["backup", "team-a", "web"]


def test_a_finished_machine_that_lost_its_record_is_nobody_s_for_another_controller(world, finished):
    vm = finished.vm
    vm.set(delete="description")
    with world.untouched(vm), world.unchanged():
        finished.play(controller=world.controller_named("second")).refused(str(vm.vmid), "nixos_vm_adopt")
