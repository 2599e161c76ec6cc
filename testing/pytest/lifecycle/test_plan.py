"""playbooks/plan.yml: one report of what a run would do to all machines, which changes nothing."""

import json
import re

from conftest import token_without
from test_placement import memory

STOCK = {"finished": 4, "provisioned": 1}
NODES = ("pve", "b", "c")
PLAN = "playbooks/plan.yml"
GIB = 1 << 30


def plan(world, machines, *flags, **variables):
    return world.controller.play(machines, *flags, playbook=PLAN, **variables)


def test_machines_of_every_kind_are_in_one_report(world, finished, stock, provisioned, tmp_path):
    memory(world, pve=20, b=20, c=40)
    changed, same = finished.with_variables(nixos_vm_memory=1024, nixos_vm_tags=["web"]), stock.take("finished", "done")
    new, bad = world.machine("new", nixos_vm_memory=2048), world.machine("bad", nixos_vm_ip="nowhere", nixos_vm_memmory=1)
    free = world.machine("free", nixos_vm_node="", nixos_vm_scsi={"scsi0": "shared:8"}, nixos_vm_disks_storage="shared")
    machines = [changed, same, new, bad, free, provisioned]
    with world.unchanged():
        play = plan(world, machines, nixos_vm_plan_path=str(tmp_path / "plan.json"))
        assert play.code == 2, play.output
        text = plan(world, machines, nixos_vm_plan_fail_on="never", nixos_vm_plan_path=str(tmp_path / "plan.txt")).succeeded()
    report = json.loads((tmp_path / "plan.json").read_text())
    actions = {host: each["action"] for host, each in report["hosts"].items()}
    assert actions == {
        changed.name: "change", same.name: "none", new.name: "create", bad.name: "refuse", free.name: "create", provisioned.name: "resume",
    }  # fmt: skip
    assert report["counts"] == {"create": 2, "resume": 1, "change": 1, "none": 1, "refuse": 1}
    assert report["hosts"][changed.name]["changes"]["memory"][1] == "1024"
    assert report["hosts"][new.name]["due"] == ["image", "upload", "provision", "boot", "install", "finalize"]
    # Only the host with mistakes fails, and its mistakes are those of the variables.
    assert [host for host, recap in play.recap.items() if recap.failed] == [bad.name]
    play.refused("nixos_vm_ip", "nixos_vm_memmory")
    # The new machines are added to what the nodes have.
    nodes = {node["node"]: node for node in report["nodes"]}
    on_pve = 2048 + 1024 - int(finished.vm.config["memory"])
    assert nodes["pve"]["given_after"] - nodes["pve"]["given"] == on_pve << 20
    assert report["placed"] == {free.name: "c"} and nodes["c"]["cpus_given_after"] - nodes["c"]["cpus_given"] == 2
    shared = next(storage for storage in report["storages"] if storage["storage"] == "shared")
    assert shared["node"] is None and shared["used_after"] - shared["used"] == 8 * GIB
    written = (tmp_path / "plan.txt").read_text()
    assert written in text.output and f"{new.name}: would create VM {new.name} on pve and install" in written
    assert f"{bad.name}: would be refused\n  ! nixos_vm_memmory" in written and f"Unchanged: {same.name}" in written


def test_hosts_that_claim_the_same_are_both_refused(world):
    one = world.machine("one")
    two = world.machine("two", nixos_vm_name=one.name)
    play = plan(world, [one, two]).refused(f"nixos_vm_name: the VM name {one.name} is also claimed by host")
    assert {host for host, recap in play.recap.items() if recap.failed} == {one.name, two.name}


def test_nothing_to_do_is_said_in_a_line(world, finished):
    play = plan(world, [finished]).succeeded()
    assert play.changed == 0 and '"msg": "1 of 1 host is unchanged"' in play.output, play.output


def test_drift_fails_a_plan_that_is_asked_to(world, finished):
    plan(world, [finished], nixos_vm_plan_fail_on="changes").succeeded()
    finished.vm.set(cores=3)
    drifted = finished.with_variables(nixos_vm_cores=1)
    with world.unchanged():
        play = plan(world, [drifted], nixos_vm_plan_fail_on="changes")
    assert play.code == 2 and "~ cores: 3 -> 1" in play.output, play.output
    play.refused("nixos_vm_plan_fail_on: changes", "cores")


def test_systems_are_built_if_their_sizes_are_wanted(world, tmp_path):
    new = world.machine("built")
    plan(world, [new], nixos_vm_plan_path=str(tmp_path / "plan.html"), nixos_vm_plan_build=True).succeeded()
    page = (tmp_path / "plan.html").read_text()
    assert re.search(r"<span>  system: [\d.]+ \w+ of the boot disk's 1\.0 GiB</span>", page), page
    plan(world, [new], nixos_vm_plan_path=str(tmp_path / "plan.json")).succeeded()
    system = json.loads((tmp_path / "plan.json").read_text())["hosts"][new.name]["system"]
    assert system == {"path": None, "bytes": None, "disk": GIB}
    assert new.vms == [] and not new.state().exists()


def test_missing_privileges_come_with_the_commands_that_grant_them(world):
    web = world.machine("less")
    play = plan(world, [web], **token_without(world, "VM.Config.Memory", "VM.Console")).refused("lacks privileges: VM.Config.Memory on /vms")
    (add,) = re.findall(r"^  \$ pveum role add Nixos-vms --privs '(.*?)' \|\| pveum role modify Nixos-vms --append 1 --privs '\1'$", play.output, re.M)
    # An entry for /vms replaces what is inherited there.
    assert {"VM.Config.Memory", "VM.Allocate"} <= set(add.split())
    assert "  $ pveum acl modify /vms --roles Nixos-vms --users 'provisioner@pve' --tokens 'provisioner@pve!ansible'" in play.output
