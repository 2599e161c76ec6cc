"""Many machines at once, through the real ansible-playbook."""

import json
import shutil
import subprocess

import yaml

from conftest import PROJECT, environment

HOSTS = [f"vm{number:03}" for number in range(100)]


def play(lab, options, *flags, forks=50):
    """Run proxmox_nixos_vm for every host, as the role does, and return what each host answered."""
    path = lab.path / "many"
    answers = path / "answers"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    (path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": dict.fromkeys(HOSTS)}}))
    task = {
        "name": "The VM",
        "delegate_to": "localhost",
        "proxmox_nixos_vm": lab.connection | {"name": "{{ inventory_hostname }}", "timeout": 500} | options,
    }
    (path / "play.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": [task]}]))
    done = subprocess.run(
        ["ansible-playbook", "-i", path / "hosts.yml", "-f", str(forks), path / "play.yml", *flags],
        cwd=PROJECT,
        env=environment(ANSIBLE_CALLBACKS_ENABLED="ansible.builtin.tree", ANSIBLE_CALLBACK_TREE_DIR=str(answers)),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return {host: json.loads((answers / host).read_text()) for host in HOSTS}


def test_a_hundred_hosts_without_a_vmid(lab):
    """100 hosts, 50 at a time: 100 VMs, no VMID twice, none too many, and the same play changes nothing."""
    options = {"memory": 128, "cores": 1, "scsi": {"scsi0": "local:0.01"}, "net": {"net0": {"bridge": "vmbr0"}}}
    made = play(lab, options)
    assert all(answer["changed"] for answer in made.values())
    vmids = {answer["vmid"] for answer in made.values()}
    assert vmids == set(range(100, 200))
    configurations = sorted((lab.path / "pve/qemu-server").glob("*.conf"))
    names = [line[6:] for file in configurations for line in file.read_text().splitlines() if line.startswith("name: ")]
    assert sorted(names) == HOSTS
    assert len(list((lab.path / "pve/storage/local/images").rglob("*.raw"))) == 100
    macs = {answer["config"]["net0"].split(",")[0] for answer in made.values()}
    assert len(macs) == 100

    writes = lab.writes()
    assert not any(answer["changed"] for answer in play(lab, options).values())
    assert lab.writes() == writes

    gone = play(lab, {"state": "absent"})
    assert all(answer["changed"] for answer in gone.values())
    assert not list((lab.path / "pve/qemu-server").glob("*.conf"))
    assert not list((lab.path / "pve/storage/local/images").rglob("*.raw"))
