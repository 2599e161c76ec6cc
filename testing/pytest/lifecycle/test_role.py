"""The role as its users meet it: what it costs, what a check shows, and what it leaves on Proxmox VE."""

import re


STOCK = {"provisioned": 1, "finished": 1}


def test_a_machine_is_installed_in_few_tasks_and_a_second_run_in_fewer(world):
    web = world.machine()
    play = web.play().succeeded()
    recap = play.recap[web.name]
    print(f"installed in {play.seconds:.1f} s, {recap}")
    assert recap.ok + recap.skipped <= 25
    assert web.vm.disk.formats == 1 and web.vm.boots == ["installer", "installed"] and web.runs() == [1, 1]
    assert web.vm.record["host"] == web.name and web.vm.record["phase"] == "done"
    assert int(web.vm.record["vmid"]) == web.vm.vmid and web.vm.record["uuid"] in web.vm.config["smbios1"]
    assert web.vm.tags == [] and "media=cdrom" not in web.vm.text
    assert not re.search(r"^(sshkeys|ci\w+|ipconfig\d|nameserver|searchdomain|lock|unused\d+):", web.vm.text, re.M)
    with world.untouched(web.vm), world.unchanged():
        again = web.play().succeeded()
    recap = again.recap[web.name]
    assert again.changed == 0 and recap.ok + recap.skipped <= 8, recap
    assert again.output.count("skipping:") <= 1
    web.destroy().succeeded()
    assert web.vms == []


def test_a_check_changes_nothing_anywhere(world, finished, provisioned):
    new, under_way = world.machine(), provisioned
    hosts = [new, under_way, finished]
    files = sorted((str(path), path.stat().st_mtime_ns) for path in world.controller.state.rglob("*"))
    with world.untouched(under_way.vm, finished.vm), world.unchanged():
        play = world.controller.play(hosts, "--check", "--diff").succeeded()
    assert new.vms == []
    assert sorted((str(path), path.stat().st_mtime_ns) for path in world.controller.state.rglob("*")) == files
    assert play.recap[finished.name].changed == 0


def test_machines_of_one_play_do_not_wait_for_a_failing_one(world):
    good, bad = world.machine(), world.machine()
    bad.behaves(silence="refuse")
    play = world.controller.play([good, bad], nixos_vm_boot_timeout=5)
    assert play.recap[good.name].failed == 0 and play.recap[bad.name].failed == 1
    assert good.vm.record["phase"] == "done"


def test_a_step_can_be_asked_for_alone(world):
    """Up to the image on the storage; the rest follows with a run without tags."""
    web = world.machine()
    web.play("--tags", "image,upload").succeeded()
    assert web.vms == [] and list(world.pve.glob("storage/local/template/iso/*"))
    web.play("--tags", "provision").succeeded()
    assert web.vm.record["phase"] == "provisioning" and not web.vm.running
    web.play("--tags", "boot").succeeded()
    assert web.vm.boots == ["installer"]
    web.play().succeeded()
    assert web.vm.disk.formats == 1
