"""Machines with data disks that are installed anew, and cut off meanwhile."""

import re

DATA = {"scsi1": b"the pictures of ten years", "virtio2": b"the books"}


def with_data(world, **variables):
    """A finished machine with two data disks, with options of their own."""
    disks = {
        "nixos_vm_scsi": {"scsi0": "local-zfs:4", "scsi1": "local-zfs:1,discard=on,serial=data1"},
        "nixos_vm_virtio": {"virtio2": "local-zfs:1,iothread=1"},
    }
    web = world.machine(**disks, **variables)
    web.play().succeeded()
    for key, data in DATA.items():
        # In its place: the file's size is the disk's.
        with web.vm.other_volumes[key].open("r+b") as volume:
            volume.write(data)
    world.guests.given_up.add(web.vm.vmid)
    return web


def data(web):
    return {key: volume.read_bytes().rstrip(b"\0") for key, volume in web.vm.other_volumes.items()}


def hardware(web):
    """The configuration without the notes, the order of its lines and what differs between two runs."""
    return {key: value for key, value in web.vm.config.items() if key not in ("meta", "smbios1", "vmgenid", "digest")}


def cut_off_everywhere(world, stride):
    """The play is killed at its first call of the API, then at a later one, and so on; each run goes on with what the ones before left.

    Counting starts anew when the machine's phase has moved. Every other time the call has had its effect.
    """
    web = with_data(world, nixos_vm_boot_timeout=60)
    vm, before = web.vm, hardware(web)
    old, installation = vm.disk, vm.record["installation"]
    confirmed = web.with_variables(nixos_vm_confirm_reinstall=web.name)
    call, turn, seen = 1, 0, None
    while world.controller.cut([confirmed], call, after_effect=turn % 2 > 0):
        print(f"turn {turn}, call {call}: {vm.record}", flush=True)
        volumes = {re.split(r"[,=]", value)[0] for value in vm.config.values()}
        assert len([volume for volume in volumes if re.search(r"vm-\d+-disk-\d", volume)]) == 3, vm.text
        assert not any(volume.read_bytes().startswith(b"formatted") for volume in vm.other_volumes.values())
        phase = (vm.record.get("phase"), vm.record.get("installation"))
        turn, call = turn + 1, call + stride
        if phase != seen:
            call, seen = 1 + turn % stride, phase
    assert vm.record["phase"] == "done" and vm.record["installation"] != installation, vm.notes
    assert vm.disk.formats >= 2 and vm.disk.host_keys == old.host_keys
    assert data(web) == DATA and hardware(web) == before
    formats = vm.disk.formats
    assert confirmed.play().succeeded().changed == 0 and vm.disk.formats == formats
    assert world.controller.files_with("PRIVATE KEY") == []
