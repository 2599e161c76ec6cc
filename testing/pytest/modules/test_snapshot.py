"""proxmox_snapshot under the real Ansible: converges, shows its plan, and refuses before it changes anything."""

import json
import re

import pytest

VM = {"name": "snap1", "timeout": 100}
DISK = {"scsi0": {"storage": "local", "size": "64M", "format": "qcow2"}}
MODULE = "proxmox_snapshot"


@pytest.fixture
def vm(lab):
    """A stopped VM without snapshots, whose disk can have them."""
    made = lab.module("proxmox_nixos_vm", node="pve", vmid=120, name="snap1", memory=128, scsi=DISK)
    assert not made.failed, made.output
    yield lab
    gone = lab.module("proxmox_nixos_vm", vmid=120, state="absent", force=True)
    assert not gone.failed, gone.output


def snapshot(lab, name, *flags, **options):
    done = lab.module(MODULE, flags, **VM, snapname=name, **options)
    assert not done.failed, done.output
    return done


def diff(result):
    """The lines of the diff that Ansible shows which differ."""
    assert "+++ after: VM 120 (snap1)" in result.output, result.output
    return [line for line in result.output.splitlines() if re.match(r"[-+] ", line)]


def section(lab, name):
    """The lines of a snapshot in the VM's file."""
    text = (lab.path / "pve/qemu-server/120.conf").read_text()
    found = re.search(rf"^\[{name}\]\n(.*?)(?=^\[|\Z)", text, re.M | re.S)
    return found[1] if found else None


def test_present_again_check_diff_and_absent(vm):
    writes = vm.writes()
    would = snapshot(vm, "s1", "--check", "--diff", description="first")
    assert would.outcome == "CHANGED" and vm.writes() == writes
    assert diff(would) == [
        '-    "snapshots": {}', '+    "snapshots": {', '+        "s1": {', '+            "description": "first",',
        '+            "vmstate": false', "+        }", "+    }",
    ]
    made = snapshot(vm, "s1", description="first")
    assert made.outcome == "CHANGED" and made.data["done"] == ["created s1"]
    assert section(vm, "s1").startswith("#first\n")
    writes = vm.writes()
    assert snapshot(vm, "s1", description="first").outcome == "SUCCESS"
    assert snapshot(vm, "s1").outcome == "SUCCESS"
    assert vm.writes() == writes
    assert snapshot(vm, "s1", description="second").data["done"] == ["described s1"]
    assert section(vm, "s1").startswith("#second\n")
    assert snapshot(vm, "s1", "--check", state="absent").outcome == "CHANGED"
    assert snapshot(vm, "s1", state="absent").outcome == "CHANGED"
    assert snapshot(vm, "s1", state="absent").outcome == "SUCCESS"
    assert section(vm, "s1") is None


def test_retention_deletes_only_the_names_it_was_told_about(vm):
    for name in ("by-hand", "auto-1", "auto-2"):
        snapshot(vm, name)
    # PVE's times are whole seconds.
    path = vm.path / "pve/qemu-server/120.conf"
    times = iter(range(1_700_000_000, 1_700_000_010))
    path.write_text(re.sub(r"^snaptime: .*", lambda _: f"snaptime: {next(times)}", path.read_text(), flags=re.M))
    refused = vm.module(MODULE, **VM, snapname="auto-3", retention=2)
    assert refused.failed and "retention_prefix: is required" in refused.data["msg"]
    made = snapshot(vm, "auto-3", retention=2, retention_prefix="auto-")
    assert made.data["done"] == ["created auto-3", "deleted auto-1"]
    assert sorted(made.data["snapshots"]) == ["auto-2", "auto-3", "by-hand"]


@pytest.mark.parametrize("state", ["rolled_back", "rollback"])
def test_a_rollback_is_reported_as_a_change_in_every_run(vm, state):
    snapshot(vm, "s1")
    changed = vm.module("proxmox_nixos_vm", vmid=120, memory=256, tags=["later"])
    assert not changed.failed, changed.output
    would = snapshot(vm, "s1", "--check", "--diff", state=state, start=True)
    assert diff(would) == [
        '-    "memory": "256",', '+    "memory": "128",', '-    "status": "stopped",', '-    "tags": "later"', '+    "status": "running"',
    ]
    for _ in range(2):
        back = snapshot(vm, "s1", state=state, start=True)
        assert back.outcome == "CHANGED" and back.data["status"] == "running"
    assert snapshot(vm, "s1", state=state).data["status"] == "stopped"
    assert "memory: 128\n" in (vm.path / "pve/qemu-server/120.conf").read_text().split("\n[")[0]


def as_token(lab, name):
    return {key: lab.endpoint[name][key] for key in ("api_user", "api_token_id", "api_token_secret")}


def test_a_token_without_the_privilege_is_told_how_to_grant_it(vm):
    snapshot(vm, "s1")
    writes = vm.writes()
    for flags in ([], ["--check"]):
        for options, privilege in [
            ({"snapname": "s2"}, "VM.Snapshot"),
            ({"snapname": "s1", "state": "absent"}, "VM.Snapshot"),
            ({"snapname": "s1", "state": "rolled_back"}, "VM.Snapshot.Rollback"),
        ]:
            refused = vm.module(MODULE, flags, **VM, **as_token(vm, "provisioner"), **options)
            assert refused.failed and refused.data["error"]["kind"] == "permission_denied", refused.output
            role = f"nixos-{privilege.replace('.', '-')}"
            assert f"pveum role add {role} --privs '{privilege}'; pveum acl modify" in refused.data["msg"], refused.output
    # What is as it should be needs no privilege to change it.
    assert not vm.module(MODULE, **VM, **as_token(vm, "provisioner"), snapname="s1").failed
    assert vm.writes() == writes


def test_refusals_change_nothing(vm):
    path = vm.path / "pve/qemu-server/120.conf"
    snapshot(vm, "s1")
    text = path.read_text()
    writes = vm.writes()
    path.write_text(f"lock: backup\n{text}")
    locked = vm.module(MODULE, **{**VM, "timeout": 2}, snapname="s2")
    assert locked.failed and "locked by 'backup'" in locked.data["msg"] and "qm unlock 120" in locked.data["msg"]
    values = dict(line.split(": ", 1) for line in text.split("\n[")[0].splitlines() if ": " in line)
    uuid = values["smbios1"].removeprefix("uuid=")
    record = (
        f"#<!-- nixos-proxmox%3A v=1 installation={'0' * 32} host=snap1 vmid=120 uuid={uuid} generation={values['vmgenid']} "
        "phase=installing run=1a2b3c4d -->\n"
    )
    path.write_text(record + text)
    for options in ({"snapname": "s2"}, {"snapname": "s1", "state": "rolled_back"}, {"snapname": "s1", "state": "absent"}):
        refused = vm.module(MODULE, **VM, **options)
        assert refused.failed and refused.data["error"]["kind"] == "installing", refused.output
        assert "allow_during_installation" in refused.data["msg"]
    assert vm.writes() == writes
    # What the role decides by stays as it is: the record in the notes.
    snapshot(vm, "s1", state="rolled_back", allow_during_installation=True)
    assert path.read_text().startswith(record)
    path.write_text(text)


def test_playbooks_of_proxmox_snap_are_told_what_changed(vm):
    old = vm.module(MODULE, hostname="snap1", vmid=120, snapname="s1", unbind=False)
    assert old.failed
    for hint in ("instead of hostname: name", "instead of unbind: nothing: it is for containers"):
        assert hint in old.data["msg"], json.dumps(old.data, indent=1)
