"""A finished machine is installed anew if that is confirmed, once; its other disks and its host key stay as they were."""

import re

from conftest import login_by_key
from simulation.reinstallation import DATA, cut_off_everywhere, data, hardware, with_data
from test_build import Nix

STOCK = {"finished": 6}


def confirm(web, word=None):
    return ["-e", f"nixos_vm_confirm_reinstall={word or web.name}"]


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
    assert login_by_key(web, web.state() / "known_hosts").returncode == 0
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


def test_a_reinstallation_that_is_cut_off_loses_nothing(world):
    """At every ninth call; testing/pytest/faults cuts it off at every one."""
    cut_off_everywhere(world, 9)


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


def test_a_word_of_the_first_installation_counts_once_too(world):
    web = world.machine()
    web = web.with_variables(nixos_vm_confirm_reinstall=web.name)
    web.play().succeeded()
    web.vm.store("the data of a day")
    with world.untouched(web.vm):
        again = web.play().succeeded()
    assert again.changed == 0 and "is not installed anew" in " ".join(again.output.split())
    # Made anew under the same variables, it is a first installation again.
    web.destroy().succeeded()
    web.play().succeeded()
    web.vm.store("the data of another day")
    assert web.play().succeeded().changed == 0 and web.vm.disk.formats == 1


def test_mistakes_are_found_while_the_machine_still_runs(world, tmp_path):
    web = with_data(world)
    vm, before = web.vm, web.vm.state
    other = web.with_variables(nixos_vm_boot_disk="scsi1")
    refusal = other.play(*confirm(web)).refused("scsi1 as its boot disk", "set nixos_vm_boot_disk: scsi0")
    assert f"{web.name}:local-zfs" not in refusal.output
    smaller = {"scsi0": "local-zfs:2", "scsi1": "local-zfs:1"}
    web.with_variables(nixos_vm_scsi=smaller).play(*confirm(web)).refused("scsi0")
    nix = Nix(tmp_path)
    nix.before("sys.exit('error: undefined variable pkgz')")
    assert web.play(*confirm(web), nixos_vm_tools_path=str(nix.folder)).failures
    assert vm.state == before and data(web) == DATA
    # What the installer could reach a disk through is not given to it, and not refused in the inventory either.
    web.play(*confirm(web), nixos_vm_vm_options={"delete_disks": True, "move_disks": True}).succeeded()
    assert data(web) == DATA


def test_what_was_set_by_hand_stays(world, finished):
    web, vm = finished, finished.vm
    world.guests.given_up.add(vm.vmid)
    vm.stop()
    nic = vm.config["net0"].replace("vmbr0", "vmbr0,firewall=1,tag=7")
    vm.set(cores=8, onboot=0, net0=nic)
    vm.start()
    vm.await_listening()
    before = hardware(web)
    web.play(*confirm(web)).succeeded()
    assert hardware(web) == before and vm.disk.formats == 2


def cut_before_the_shutdown(world, web, *flags):
    """Killed when it asks for the shutdown, of which nothing comes."""
    world.faults({"method": "POST", "path": "/nodes/*/qemu/*/status/shutdown", "nth": 1, "action": "drop-before"})
    begin = len(world.requests())
    asked = lambda: any(request["path"].endswith("/shutdown") for request in world.requests()[begin:])  # noqa: E731
    with world.controller.playing([web], *flags) as play:
        world.wait_until(lambda: asked() or play.poll() is not None, "the shutdown to be asked for", 120)
    world.faults()
    assert web.vm.record["phase"] == "reinstalling"


def test_a_stale_record_and_protection_stop_it(world):
    web = with_data(world)
    vm = web.vm
    cut_before_the_shutdown(world, web, *confirm(web))
    notes = vm.notes
    vm.set(description="")
    web.play().refused("its notes have lost the record of its reinstallation")
    assert vm.notes.strip() == ""
    vm.set(description=notes)
    vm.set(protection=1)
    web.play().refused("is protected in Proxmox VE")
    assert vm.disk.formats == 1
    vm.set(protection=0)
    # Another controller does not go on by itself; nor does this one for a user who wants to keep the machine.
    other = world.controller_named("other")
    refusal = web.play(*confirm(web), controller=other).refused("is being installed anew, which this controller did not begin")
    web.play(nixos_vm_adopt=True).refused("leave nixos_vm_adopt out", "attach its other disks by hand")
    assert vm.disk.formats == 1
    word = re.search(r"nixos_vm_confirm_reinstall: (\S+:[0-9a-f]{8}:continue)", " ".join(refusal.output.split()))[1]
    # It has not the host key that the machine is to keep.
    web.play(*confirm(web, word), controller=other, nixos_vm_reinstall_host_key="new").succeeded()
    assert data(web) == DATA and vm.disk.formats == 2
    # The word has counted, and the first controller keeps nothing of what it had begun.
    assert web.play(*confirm(web, word), controller=other, nixos_vm_reinstall_host_key="new").succeeded().changed == 0
    assert web.play().succeeded().changed == 1
    assert vm.disk.formats == 2 and world.controller.files_with("PRIVATE KEY") == []


def test_earlier_notes_wipe_nothing(world, finished):
    web, vm = finished, finished.vm
    world.guests.given_up.add(vm.vmid)
    confirmed = web.with_variables(nixos_vm_confirm_reinstall=web.name)
    done = vm.notes
    cut_before_the_shutdown(world, confirmed)
    during = vm.notes
    confirmed.play().succeeded()
    assert vm.record["phase"] == "done" and vm.disk.formats == 2
    world.guests.given_up.discard(vm.vmid)
    vm.store("the data of a month")
    # A window with the notes of then is saved.
    vm.set(description=f"{during}\n")
    confirmed.play().refused("so the notes are old", "remove the record")
    vm.set(description=f"{done}\n")
    assert "is not installed anew" in " ".join(confirmed.play().succeeded().output.split())
    assert vm.disk.formats == 2
    # Several records: as the message says, all of them are removed.
    vm.set(description=f"{done}\n{during}")
    confirmed.play().refused("several records of an installation", "remove all of them")
    vm.set(description="")
    confirmed.play().succeeded()
    assert vm.record["phase"] == "done" and vm.disk.formats == 2
    assert confirmed.play().succeeded().changed == 0


def test_disks_that_are_set_aside_are_not_replaced_by_empty_ones(world):
    web = with_data(world)
    vm, done = web.vm, web.vm.notes
    web.behaves(fails=("install",))
    assert web.play(*confirm(web)).failures
    web.behaves()
    # The notes of before are written back.
    during = vm.notes
    vm.set(description=f"{done}\n")
    for flags in ((), confirm(web)):
        web.play(*flags).refused("has unused volumes", "attach them where they belong")
    vm.set(description=f"{during}\n")
    # The same of a machine that has no other disks.
    small = world.machine()
    small.play().succeeded()
    world.guests.given_up.add(small.vm.vmid)
    before = small.vm.notes
    small.behaves(fails=("install",))
    assert small.play(*confirm(small)).failures
    small.behaves()
    half = small.vm.notes
    small.vm.set(description=f"{before}\n")
    small.play().refused("it may be half installed", "restore the latest ones")
    small.vm.set(description=half)
    small.play().succeeded()
    assert small.vm.record["phase"] == "done"
    # Detached while it runs: the installer has it until it is stopped.
    unused = sorted(value for key, value in vm.config.items() if key.startswith("unused"))
    vm.stop()
    vm.set(scsi1=unused[0], hotplug="network")
    vm.start()
    vm.set(delete="scsi1")
    web.play("--tags", "install").refused("a change of its disk scsi1 waits until it is stopped")
    vm.stop()
    # To be kept as it is, with its disks still set aside.
    vm.set(description="", delete="hotplug")
    web.play(nixos_vm_adopt=True).refused("disks that it lacks (scsi1, virtio2)", "attach them where they belong")
    assert all(vm.volume(volume).read_bytes().startswith((b"the pictures", b"the books")) for volume in unused)
