"""A finished machine is installed anew if that is confirmed, once; its other disks and its host key stay as they were."""

import re

import pytest

from test_known_hosts import login

STOCK = {"finished": 4}
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
        web.vm.other_volumes[key].write_bytes(data)
    world.guests.given_up.add(web.vm.vmid)
    return web


def data(web):
    return {key: volume.read_bytes().rstrip(b"\0") for key, volume in web.vm.other_volumes.items()}


def confirm(web, word=None):
    return ["-e", f"nixos_vm_confirm_reinstall={word or web.name}"]


def hardware(web):
    """The configuration without the notes, the order of its lines and what differs between two runs."""
    return {key: value for key, value in web.vm.config.items() if key not in ("meta", "smbios1", "vmgenid", "digest")}


def test_a_confirmed_machine_is_installed_anew_once(world):
    web = with_data(world)
    vm, before = web.vm, hardware(web)
    old, installation = vm.disk, vm.record["installation"]
    # Looked at first: nothing is done, and it is said.
    checked = web.play(*confirm(web), "--check", "--diff").succeeded()
    assert "everything on its boot disk" in " ".join(checked.output.split()) and '+    "system": "installed anew"' in checked.output
    assert vm.record["phase"] == "done" and vm.running and vm.disk.formats == 1
    web.play(*confirm(web)).succeeded()
    assert vm.record["phase"] == "done" and vm.record["installation"] != installation
    assert vm.disk.formats == 2 and vm.disk.host_keys == old.host_keys
    assert data(web) == DATA
    assert hardware(web) == before
    assert login(web, web.state() / "known_hosts").returncode == 0
    assert [path.name for path in web.state().iterdir() if path.is_dir()] == [vm.record["installation"]]
    # Again, and without the word: it is a finished machine.
    again = web.play(*confirm(web)).succeeded()
    assert again.changed == 0 and vm.disk.formats == 2
    word = re.search(r"set it to (\S+:[0-9a-f]{8})", " ".join(again.output.split()))[1]
    assert web.play().succeeded().changed == 0
    web.play(*confirm(web, word), nixos_vm_reinstall_host_key="new").succeeded()
    assert vm.disk.formats == 3 and vm.disk.host_keys != old.host_keys and data(web) == DATA
    assert web.play(*confirm(web, word)).succeeded().changed == 0
    assert vm.disk.formats == 3 and hardware(web) == before


@pytest.mark.parametrize("after_effect", [False, True])
def test_a_reinstallation_that_is_cut_off_anywhere_loses_nothing(world, after_effect):
    """The play is killed at its first call of the API, then at its second, and so on; each run goes on with what the ones before left."""
    web = with_data(world, nixos_vm_boot_timeout=60)
    vm, before = web.vm, hardware(web)
    old, installation = vm.disk, vm.record["installation"]
    confirmed = web.with_variables(nixos_vm_confirm_reinstall=web.name)
    call, state = 1, None
    while world.controller.cut([confirmed], call, after_effect):
        kept = {re.split(r"[,=]", value)[0] for value in vm.config.values()}
        assert len([volume for volume in kept if re.search(r"vm-\d+-disk-\d", volume)]) == 3, vm.text
        assert not any(volume.read_bytes().startswith(b"formatted") for volume in vm.other_volumes.values())
        now = (vm.record.get("phase"), vm.record.get("installation"))
        call = 1 if now != state and state is not None else call + 3
        state = now
    assert vm.record["phase"] == "done" and vm.record["installation"] != installation, vm.notes
    assert vm.disk.formats >= 2 and vm.disk.host_keys == old.host_keys
    assert data(web) == DATA and hardware(web) == before
    formats = vm.disk.formats
    assert confirmed.play().succeeded().changed == 0 and vm.disk.formats == formats
    assert world.controller.files_with("PRIVATE KEY") == []


def test_a_failed_reinstallation_keeps_the_disks_and_goes_on(world):
    web = with_data(world)
    web.behaves(fails=("install",))
    assert web.play(*confirm(web)).failures
    assert web.vm.other_volumes == {} and web.vm.record["phase"] == "installing"
    # Somebody attaches one: the next run does not install beside it.
    unused = {value: key for key, value in web.vm.config.items() if key.startswith("unused")}
    web.vm.set(scsi1=next(iter(unused)))
    web.behaves()
    web.play().refused("scsi1", "was attached while it is being installed anew", "--delete scsi1")
    web.vm.detach("scsi1")
    web.play().succeeded()
    assert sorted(data(web).values()) == sorted(DATA.values()) and web.vm.record["phase"] == "done"


def test_what_is_not_confirmed_or_not_safe_is_left_alone(world, finished):
    web = finished
    before = web.vm.state
    for word in ("web", f"{web.name}:00000000", f"{web.name}0"):
        assert web.play(*confirm(web, word)).succeeded().changed == 0
    assert web.vm.state == before
    web.vm.set(protection=1)
    web.play(*confirm(web)).refused("is protected in Proxmox VE", "--protection 0")
    web.vm.set(protection=0)
    web.vm.set(args="-drive file=/dev/sdb")
    web.play(*confirm(web)).refused("has args", "Proxmox VE does not know")
    web.vm.set(delete="args")
    assert web.vm.disk.formats == 1 and web.vm.running


def test_a_machine_whose_key_cannot_be_read_is_left_alone(world, finished):
    web = finished
    web.vm.stop()
    web.play(*confirm(web)).refused("its SSH host key", "it does not run", "nixos_vm_reinstall_host_key: new")
    assert not web.vm.running and web.vm.record["phase"] == "done"
    world.guests.given_up.add(web.vm.vmid)
    old = web.vm.disk.host_keys
    web.play(*confirm(web), nixos_vm_reinstall_host_key="new").succeeded()
    assert web.vm.disk.formats == 2 and web.vm.disk.host_keys != old


def test_another_machine_at_its_address_gives_no_key(world, finished):
    web = finished
    web.behaves(host_keys=[world.login_key.read_text()])
    web.play(*confirm(web)).refused("its SSH host key", "cannot be read")
    web.behaves()
    assert web.vm.disk.formats == 1 and web.vm.record["phase"] == "done"


def test_keys_of_the_host_keys_directory_come_with_it(world, finished, tmp_path):
    web, place = finished, {"nixos_vm_host_keys_dir": str(tmp_path / "keys")}
    world.controller.play([web], playbook="playbooks/keys.yml", **place).succeeded()
    world.guests.given_up.add(web.vm.vmid)
    web.play(*confirm(web), **place).succeeded()
    assert web.vm.disk.host_keys == [(tmp_path / "keys" / web.name / "ssh_host_ed25519_key").read_text()]
