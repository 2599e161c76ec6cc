"""Machines whose installation ended well, but whose run did not: whatever people do then, nothing is installed twice."""

import pytest

STOCK = {"cut_off": 6, "half_written": 6}


def assert_finished(web, formats=1):
    """Installed once, with nothing left of the installer."""
    assert web.vm.disk.formats == formats and web.vm.record["phase"] == "done"
    assert "media=cdrom" not in web.vm.text and web.vm.running
    assert web.vm.boots[-1] == "installed"


def test_it_is_finished_when_nobody_did_anything(world, cut_off):
    cut_off.play().succeeded()
    assert_finished(cut_off)
    assert cut_off.play().succeeded().changed == 0


def test_a_machine_that_a_person_finished_is_never_installed_again(world, cut_off):
    """Installer and seed detached, started from the disk, and used for weeks."""
    cut_off.vm.finish_by_hand()
    cut_off.vm.store("three weeks of production")
    boots = cut_off.vm.boots
    cut_off.play().succeeded()
    assert_finished(cut_off)
    assert cut_off.vm.boots == boots and cut_off.vm.disk.data == "three weeks of production"


def test_a_machine_that_was_only_told_to_boot_from_its_disk(world, cut_off):
    """Installer and seed are attached still; the host key shows that the machine is installed."""
    cut_off.vm.stop()
    cut_off.vm.set(boot="order=scsi0")
    cut_off.vm.start()
    cut_off.vm.await_listening()
    cut_off.vm.store("three weeks of production")
    cut_off.play().succeeded()
    assert_finished(cut_off)
    assert cut_off.vm.disk.data == "three weeks of production"


def test_a_machine_that_a_person_detached_and_left_stopped(world, cut_off):
    cut_off.vm.stop()
    cut_off.vm.detach("ide0", "ide2")
    cut_off.vm.set(boot="order=scsi0")
    cut_off.play().succeeded()
    assert_finished(cut_off)


def test_another_controller_knows_the_machine_by_its_host_key(world, cut_off):
    """It has neither the keys nor the word of nixos-anywhere, but the record names the key that the system was given."""
    cut_off.vm.finish_by_hand()
    cut_off.vm.store("three weeks of production")
    boots = cut_off.vm.boots
    cut_off.play(controller=world.controller_named("second")).succeeded()
    assert_finished(cut_off)
    assert cut_off.vm.boots == boots and cut_off.vm.disk.data == "three weeks of production"


def test_another_controller_does_not_install_onto_what_it_cannot_ask(world, cut_off):
    """The machine is stopped, so nothing says that it is installed; nor does this controller know how its installation ended."""
    cut_off.vm.stop()
    cut_off.vm.detach("ide0", "ide2")
    cut_off.vm.set(boot="order=scsi0")
    cut_off.vm.store("three weeks of production")
    with world.untouched(cut_off.vm), world.unchanged():
        cut_off.play(controller=world.controller_named("second")).refused(cut_off.name, str(cut_off.vm.vmid))


def test_a_machine_that_runs_another_system_than_was_built_is_reported_only(world):
    """A guest that says so, or an update that came first."""
    web = world.machine()
    web.behaves(running_system="/nix/store/other-system")
    web.play()
    web.behaves()
    web.vm.finish_by_hand()
    web.vm.store("three weeks of production")
    web.play()
    assert web.vm.disk.formats == 1 and web.vm.disk.data and web.vm.running


def test_a_half_written_disk_is_installed_again(world, half_written):
    """Nothing was touched since, so this needs nobody's help."""
    assert half_written.vm.disk.formats == 1
    half_written.play().succeeded()
    assert_finished(half_written, formats=2)


@pytest.mark.parametrize("edit", ["detached", "boot order", "other disk", "seed only"])
def test_a_half_written_disk_is_left_alone_when_somebody_was_at_it(world, half_written, edit):
    """What changed the VM may have changed its disk: refused with both ways out."""
    vm = half_written.vm
    vm.stop()
    if edit == "detached":
        vm.detach("ide0", "ide2")
        vm.set(boot="order=scsi0")
    elif edit == "boot order":
        vm.set(boot="order=scsi0;ide2")
    elif edit == "other disk":
        # The disk that the installation made is kept as unused, another one stands in its place.
        vm.set(scsi0="local:1")
        vm.store("restored by hand")
    else:
        vm.detach("ide0")
    with world.untouched(vm), world.unchanged():
        half_written.play().refused(half_written.name, str(vm.vmid))


def test_an_installation_goes_on_on_what_answers_as_its_installer_only(world, half_written):
    """Another key at the address: somebody else's machine, or another installer."""
    half_written.behaves(host_keys=[world.login_key.read_text()])
    vm = half_written.vm
    with world.untouched(vm), world.unchanged():
        half_written.play(nixos_vm_boot_timeout=10).refused(half_written.name)


def test_a_record_that_is_lost_in_the_middle_stops_the_run_and_comes_back(world):
    """Formerly a machine without its tag counted as finished, with installer and keys attached for ever."""
    web = world.machine()
    web.behaves(before={"format": lambda: web.vm.set(description="notes of a colleague")})
    web.play().refused(web.name)
    web.behaves()
    web.play().succeeded()
    assert_finished(web, formats=web.vm.disk.formats)
    assert web.vm.notes.startswith("notes of a colleague")
