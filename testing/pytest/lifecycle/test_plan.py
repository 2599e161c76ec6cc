"""playbooks/plan.yml: one report of what a run would do to all machines, which changes nothing."""

import json
import re

from conftest import token_without
from test_placement import memory

STOCK = {"finished": 7, "provisioned": 1}
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


def test_a_refused_host_has_its_claims(world):
    good = world.machine("good")
    bad = world.machine("bad", nixos_vm_ip=good.host_variables["nixos_vm_ip"], nixos_vm_disks_storage="nowhere")
    play = plan(world, [good, bad]).refused("is also claimed by host", "nowhere")
    assert {host for host, recap in play.recap.items() if recap.failed} == {good.name, bad.name}


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
    assert "  $ pveum acl modify /vms --roles Nixos-vms --tokens 'provisioner@pve!ansible'" in play.output


def test_the_commands_grant_what_was_missing(world):
    """Done as a shell of root would do them."""
    web = world.machine("granted")
    token = token_without(world, "VM.Config.Memory", "Datastore.Allocate")
    output = plan(world, [web], **token).refused("VM.Config.Memory", "Datastore.Allocate").output
    file = world.pve / "access.json"
    access = json.loads(file.read_text())
    for role, privileges in re.findall(r"^  \$ pveum role add (\S+) --privs '(.*?)'", output, re.M):
        access["roles"][role] = privileges.split()
    for path, role, whom in re.findall(r"pveum acl modify (\S+) --roles (\S+) --(?:users|tokens) '(.*?)'$", output, re.M):
        access["acl"].append({"path": path, "ugid": whom, "role": role})
    new = file.with_suffix(".new")
    new.write_text(json.dumps(access))
    new.rename(file)
    plan(world, [web], **token).succeeded()


def test_a_deployment_is_planned(world, finished, flake):
    finished.variables.update(nixos_vm_deploy=True, nixos_vm_flake=flake.uri)
    flake(2)
    with world.unchanged():
        play = plan(world, [finished], nixos_vm_plan_build=True).succeeded()
    assert "\n  steps: deploy\n" in play.output and re.search(r"^  ~ system: \S+ -> \S+$", play.output, re.M), play.output
    # A run would start the first one; the other one stays stopped.
    finished.vm.stop()
    play = plan(world, [finished]).succeeded()
    assert "would start" in play.output and "check mode cannot read which system it runs" in play.output, play.output
    plan(world, [finished], nixos_vm_state="stopped").refused("is stopped")


def test_a_reinstallation_is_planned(world, finished):
    with world.unchanged():
        play = plan(world, [finished], nixos_vm_confirm_reinstall=finished.name).succeeded()
    assert "1 of 1 host is to be reinstalled" in play.output, play.output


def test_a_report_that_cannot_be_written_fails(world, finished, tmp_path):
    play = plan(world, [finished], nixos_vm_plan_path=str(tmp_path / "no/plan.txt"))
    play.refused("path", str(tmp_path / "no/plan.txt"), "cannot be written")
    plan(world, [finished], "--check", nixos_vm_plan_path=str(tmp_path / "plan.txt")).succeeded()
    assert (tmp_path / "plan.txt").exists()
