"""Machines whose boot disk is a copy of a disk image, and that get who they are from their seeds."""

import subprocess

import pytest

STOCK = {"finished": 2}


@pytest.fixture
def fleet(world):
    """The variables of machines that share one image, to which the operator's key may log in."""
    return world.from_image()


def seeds(world, vm):
    return list(world.pve.rglob(f"nixos-proxmox-seed-{vm.vmid}-*"))


def seeds_with_keys(world):
    return [path for path in world.pve.rglob("nixos-proxmox-seed-*") if world.private_keys_in(path)]


def test_machines_from_one_image_end_verified_and_know_who_they_are(world, fleet):
    machines = [world.machine("fleet", **fleet) for _ in range(2)]
    world.controller.play(machines).succeeded()
    for machine in machines:
        vm = machine.vm
        assert vm.record["phase"] == "done" and vm.record["image"] == "local:import/nixos.raw"
        # Booted with its first seed, verified, and once more with the one that stays.
        assert vm.boots == ["installed", "installed"] and vm.running
        assert "ide2" not in vm.config and vm.config["boot"] == "order=scsi0"
        assert vm.config["scsi0"].endswith("size=1G")
    keys = {machine.vm.record["host_key"] for machine in machines}
    assert len(keys) == 2
    assert len(list(world.pve.rglob("nixos.raw"))) == 1
    assert seeds_with_keys(world) == [] and not list(world.controller.state.glob("fleet*/**/host_key_ed25519"))
    with world.untouched(*(machine.vm for machine in machines)), world.unchanged():
        again = world.controller.play(machines).succeeded()
    assert again.changed == 0
    # The address is that of the seed that stays.
    machines[0].vm.stop()
    machines[0].vm.start()
    machines[0].vm.await_listening()
    machines[0].play("-e", '{"nixos_vm_description": "of the fleet"}').succeeded()
    machines[0].destroy().succeeded()
    assert machines[0].vms == [] and len(list(world.pve.rglob("nixos-proxmox-seed-*"))) >= 1


@pytest.fixture
def silent(world, fleet):
    """A machine whose first run could not reach it: it runs, and has its first seed."""
    web = world.machine(**fleet)
    web.behaves(silence="refuse")
    web.with_variables(nixos_vm_boot_timeout=5).play().refused("connection refused")
    assert web.vm.record["phase"] == "provisioning" and any(world.private_keys_in(seed) for seed in seeds(world, web.vm))
    return web


def test_another_controller_goes_on_with_keys_of_its_own(world, fleet):
    web = world.machine(**fleet)
    web.behaves(silence="refuse")
    web.with_variables(nixos_vm_boot_timeout=5).play().refused("connection refused")
    assert web.vm.record["phase"] == "provisioning"
    web.behaves()
    other = world.controller_named("second")
    web.play(controller=other).succeeded()
    assert web.vm.record["phase"] == "done"
    # The first one has nothing of it left that it could go on with.
    assert web.play().succeeded().changed in (0, 1)


def test_a_machine_that_is_in_use_is_not_stopped_hard(world, fleet):
    """Its run was cut off before it was verified, and somebody uses it since."""
    web = world.machine(**fleet)
    web.behaves(silence="refuse")
    web.with_variables(nixos_vm_boot_timeout=5).play().refused("connection refused")
    web.vm.store("weeks of work")
    stops = len([event for event in world.guests.events if event[1:] == (web.vm.vmid, "power", "stop")])
    web.behaves()
    web.with_variables(nixos_vm_memory=1024).play().succeeded()
    assert web.vm.disk.data == "weeks of work" and web.vm.config["memory"] == "1024"
    assert len([event for event in world.guests.events if event[1:] == (web.vm.vmid, "power", "stop")]) == stops


def test_a_machine_that_does_not_answer_is_not_stopped(world, silent):
    """Somebody uses it behind a firewall."""
    quick = {"nixos_vm_boot_timeout": 5}
    with world.untouched(silent.vm):
        silent.with_variables(nixos_vm_memory=1024, **quick).play().refused("may be in use", "shut it down")
        # Without the first one's keys it would get other ones.
        silent.with_variables(**quick).play(controller=world.controller_named("second")).refused("may be in use")
    silent.vm.stop()
    silent.vm.detach("ide0")
    silent.vm.start()
    world.wait_until(lambda: silent.vm.disk.boots == 2, "its second boot")
    with world.untouched(silent.vm):
        silent.with_variables(**quick).play().refused("its seed ISO was detached")


def test_corrected_login_keys_and_addresses_reach_the_machine(world, fleet):
    web = world.machine(**{**fleet, "nixos_vm_authorized_keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBbFFYMTlh1CjaWZBOwLAyLLYySC0hBGQgWJzLBfcFcT x"]})
    web.with_variables(nixos_vm_boot_timeout=10).play().refused("login")
    corrected = web.with_variables(**fleet)
    corrected.play().succeeded()
    assert web.vm.record["phase"] == "done" and not any(world.private_keys_in(seed) for seed in seeds(world, web.vm))
    key = web.vm.record["host_key"]
    # Of a finished machine, at its next start; its host keys stay.
    more = corrected.with_variables(nixos_vm_searchdomains=["example.org"])
    assert "applies at the next start" in more.play().succeeded().output
    assert more.play().succeeded().changed == 0
    web.vm.stop()
    assert more.play().succeeded().changed == 1
    assert web.vm.record["host_key"] == key and web.vm.running


def test_a_machine_that_has_its_last_seed_is_not_restarted(world, fleet, tmp_path):
    """Its verification fails: the operator's key is another one."""
    web = world.machine(**fleet)
    other = tmp_path / "other_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    locked_out = web.with_variables(nixos_vm_boot_timeout=10, ansible_ssh_private_key_file=str(other))
    locked_out.play().refused("login")
    locked_out.play().refused("login")
    assert web.vm.record["phase"] == "installed" and web.vm.disk.boots == 2
    locked_out.play().refused("login")
    assert web.vm.disk.boots == 2
    web.play().succeeded()
    assert web.vm.record["phase"] == "done" and web.vm.disk.boots == 2


def test_a_machine_whose_seed_is_gone_gets_it_again(world, fleet):
    web = world.machine(**fleet)
    web.play().succeeded()
    web.vm.stop()
    for seed in seeds(world, web.vm):
        seed.unlink()
    web.play().succeeded()
    assert web.vm.running and web.play().succeeded().changed == 0


def test_secrets_in_the_address_of_an_image_are_masked(world, fleet):
    secret = "hunter2hunter2"
    web = world.machine(**{**fleet, "nixos_vm_disk_image": f"http://me:{secret}@127.0.0.1:9/nixos.qcow2?token={secret}", "nixos_vm_disk_image_source": "url"})
    played = web.play("-vvvv")
    assert played.code != 0 and secret not in played.output


def test_somebody_elses_host_key_is_refused(world, fleet):
    web = world.machine(**fleet)
    web.behaves(silence="refuse")
    web.with_variables(nixos_vm_boot_timeout=5).play().refused("connection refused")
    stranger = world.path / "login_key"
    web.behaves(host_keys=[stranger.read_text()])
    with world.untouched(web.vm):
        web.play().refused("host key that is not this installation's")


def test_the_method_of_a_machine_does_not_change(world, fleet, finished):
    web = world.machine(**fleet)
    web.behaves(silence="refuse")
    web.with_variables(nixos_vm_boot_timeout=5).play().refused("connection refused")
    web.behaves()
    installer = {key: value for key, value in world.variables().items() if key in ("nixos_vm_installer_iso", "nixos_vm_flake")}
    with world.untouched(web.vm):
        web.with_variables(nixos_vm_method="installer", **installer).play().refused("another nixos_vm_method", "set nixos_vm_method back")
    web.play().succeeded()
    # A finished machine stays as it is, whatever the variable says, and is not made from the image.
    with world.untouched(finished.vm):
        assert finished.with_variables(**fleet).play().succeeded().changed == 0
        image = finished.with_variables(**fleet, nixos_vm_confirm_reinstall=finished.name)
        image.play().refused("makes new machines only", "nixos_vm_method: installer")
    # It is installed anew by the installer.
    anew = web.with_variables(nixos_vm_method="installer", nixos_vm_confirm_reinstall=web.name, **installer)
    world.guests.given_up.add(web.vm.vmid)
    anew.play().succeeded()
    assert web.vm.disk.formats == 1 and "image" not in web.vm.record


def templates(world):
    return [vm for vm in world.vms() if vm.config.get("template") == "1"]


def test_machines_are_linked_clones_of_one_template(world, fleet):
    linked = {**fleet, "nixos_vm_disk_image_template": True, "nixos_vm_disks_storage": "local-zfs"}
    machines = [world.machine("linked", **linked) for _ in range(3)]
    world.controller.play(machines).succeeded()
    (template,) = templates(world)
    assert template.vmid >= 9000
    for machine in machines:
        vm = machine.vm
        assert vm.record["phase"] == "done" and vm.config["scsi0"].startswith(f"local-zfs:base-{template.vmid}-disk-0/vm-{vm.vmid}-disk-")
        assert vm.config["scsi0"].endswith("size=1G") and vm.disk.boots == 2
    assert len({machine.vm.record["host_key"] for machine in machines}) == 3
    with world.untouched(template, *(machine.vm for machine in machines)), world.unchanged():
        assert world.controller.play(machines).succeeded().changed == 0
    # Another controller makes one of its own: it cannot know whose the first one is.
    other = world.machine("linked", **linked)
    other.play(controller=world.controller_named("second")).succeeded()
    assert len(templates(world)) == 2


def test_a_clone_that_was_cut_off_before_its_uuid_was_set_is_finished(world, fleet):
    web = world.machine("half", **fleet, nixos_vm_disk_image_template=True, nixos_vm_disks_storage="local-zfs")
    # The call that clones has its effect, and nothing after it.
    rules = [
        {"method": "POST", "path": "/nodes/*/qemu/*/clone", "nth": 1, "action": "drop-after"},
        {"method": "PUT", "path": "/nodes/*/qemu/*/config", "nth": 1, "times": 10**9, "action": "drop-before"},
    ]
    begin = len(world.requests())
    world.faults(*rules)
    with world.controller.playing([web]) as play:
        world.wait_until(lambda: play.poll() is not None or any(request["method"] == "PUT" for request in world.requests()[begin:]), "the write")
        play.kill()
    world.faults()
    assert web.vm.record["phase"] == "creating" and web.vm.record["uuid"] not in web.vm.config["smbios1"]
    web.play().succeeded()
    assert web.vm.record["phase"] == "done" and web.vm.record["uuid"] in web.vm.config["smbios1"]
    # A clone of it is nobody's.
    with world.untouched(web.vm):
        copy = web.vm.clone(world.machine("copy").name)
    assert copy.record["vmid"] != str(copy.vmid)


def test_a_template_that_somebody_replaced_is_refused(world, fleet):
    linked = {**fleet, "nixos_vm_disk_image_template": True, "nixos_vm_disks_storage": "local-zfs", "nixos_vm_agent": "enabled=0"}
    linked["nixos_vm_bios"], linked["nixos_vm_scsihw"] = "seabios", "virtio-scsi-pci"
    world.machine("linked", **linked).play().succeeded()
    known = {vm.vmid for vm in templates(world)}
    template = world.vm(max(known))
    template.file.write_text(template.file.read_text().replace("uuid=", "uuid=0"))
    web = world.machine("linked", **linked)
    web.play().refused("is not the template that this controller made")
    assert web.vms == []


def test_the_documented_privileges_are_enough(world, fleet):
    least = {f"nixos_vm_{key}": value for key, value in world.endpoint["provisioner"].items()}
    web = world.machine(**fleet, **least)
    web.play().succeeded()
    assert web.vm.record["phase"] == "done" and web.play().succeeded().changed == 0
    linked = world.machine(**fleet, **least, nixos_vm_disk_image_template=True)
    with world.unchanged():
        linked.play().refused("VM.Clone on /vms (nixos_vm_disk_image_template)")


def test_check_mode_says_what_would_be_done(world, fleet):
    web = world.machine(**fleet)
    with world.unchanged():
        checked = web.play("--check", "--diff").succeeded()
    assert web.vms == [] and checked.changed > 0
    assert "nixos-anywhere" not in checked.output


def test_mistakes_are_found_beforehand(world, fleet):
    large = world.path / "large.qcow2"
    header = bytearray(1 << 16)
    header[:8], header[24:32] = b"QFI\xfb\0\0\0\x03", (2 << 30).to_bytes(8, "big")
    large.write_bytes(header)
    with world.unchanged():
        web = world.machine(**fleet)
        web.with_variables(nixos_vm_disk_image="").play().refused("nixos_vm_disk_image: is required")
        web.with_variables(nixos_vm_disk_image="/nowhere.qcow2").play().refused("nixos_vm_disk_image: /nowhere.qcow2 is not a file")
        web.with_variables(nixos_vm_disk_image=str(large)).play().refused(f"a disk of {2 << 30} bytes, and scsi0 is to have {1 << 30}")
        web.with_variables(nixos_vm_disk_image=str(world.path / "installer.iso")).play().refused("nixos_vm_disk_image_name", ".qcow2")
        web.with_variables(nixos_vm_disk_image_storage="local-zfs").play().refused("local-zfs does not hold disk images")
        web.with_variables(nixos_vm_user_data={"ssh_keys": {"ed25519_private": "x"}}).play().refused("nixos_vm_user_data.ssh_keys: is not supported")
        web.with_variables(nixos_vm_ssh_host_key_types=[]).play().refused("nixos_vm_ssh_host_key_types: is empty")
        several = web.with_variables(nixos_vm_persist="/persist", nixos_vm_extra_files=[{"path": "/a", "content": "x"}], nixos_vm_ip="")
        several.play().refused("nixos_vm_persist: is not supported with", "nixos_vm_extra_files: is not", "nixos_vm_ip: is required")
        web.with_variables(nixos_vm_disk_image_source="build").play().refused("nixos_vm_flake: is required")
