"""What the role does, and refuses to do, on the way: with simulated guests, which no login reaches."""

import json
import re
import subprocess

import pytest
from conftest import PROJECT, environment

HOSTS = """
nixos_vms:
  hosts:
{hosts}
  vars:
    ansible_port: 1
    nixos_vm_ip: 10.77.0.41/24
    nixos_vm_boot_timeout: 3
    nixos_vm_install_timeout: 60
"""


class Play:
    """The play that users run, against a test host whose guests are simulated."""

    def __init__(self, lab, path):
        self.lab = lab
        self.inventory = path / "inventory"
        self.inventory.mkdir()
        (self.inventory / "group_vars").symlink_to(PROJECT / "testing/demo/inventory/group_vars")
        self.hosts("web1")

    def hosts(self, *names):
        # Of the host, since the group's are those of the demo, relative to its inventory.
        own = f"{{ansible_host: 127.0.0.1, nixos_vm_flake: '{PROJECT}/testing/demo/flake#web', nixos_vm_tools_path: {PROJECT}/testing/stand-in}}"
        hosts = "\n".join(f"    {name}: {own}" for name in names)
        (self.inventory / "hosts.yml").write_text(HOSTS.format(hosts=hosts))

    def __call__(self, *flags, playbook="provision.yml"):
        done = subprocess.run(
            ["ansible-playbook", playbook, "-i", str(self.inventory), *flags],
            cwd=PROJECT,
            env=environment(NIXOS_PROXMOX_DEMO_DIR=str(self.lab.path)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        return done.returncode, " ".join(done.stdout.split())

    def vm(self, **options):
        result = self.lab.module("proxmox_nixos_vm", node="pve", name="web1", **options)
        assert not result.failed, result.output
        return result.data

    @property
    def state(self):
        return self.lab.path / "state/web1"


@pytest.fixture
def play(lab, tmp_path):
    play = Play(lab, tmp_path)
    yield play
    code, output = play("-e", "nixos_vm_confirm_destroy=web1", playbook="playbooks/destroy.yml")
    assert code == 0, output


def test_a_step_whose_turn_has_not_come_does_nothing(play):
    for step in ("finalize", "install", "boot"):
        code, output = play("--tags", step)
        assert code != 0 and "does not exist yet" in output, output
        assert not play.vm(state="current")["exists"]
    code, output = play("--tags", "image,upload,provision")
    assert code == 0, output
    before = play.vm(state="current")
    assert before["tags"] == [] and "phase=provisioning" in before["config"]["description"]
    writes = play.lab.writes()
    code, output = play("--tags", "finalize")
    assert code != 0 and "its phase is 'provisioning'" in output, output
    assert play.lab.writes() == writes
    assert play.vm(state="current")["config"] == before["config"]


@pytest.mark.parametrize(("given", "said"), [
    ({"nixos_vm_tags": {"web": True}}, "nixos_vm_tags"),
    ({"nixos_vm_tags": ["a b"]}, "nixos_vm_tags"),
    ({"nixos_vm_scsi": {"virtio0": "local:1"}}, "nixos_vm_scsi"),
    ({"nixos_vm_ip": "10.77.0.32"}, "nixos_vm_ip: must be an address with the length of its prefix"),
    ({"nixos_vm_gateway": "fe80::1"}, "nixos_vm_gateway: fe80::1 is an IPv6 gateway, but nixos_vm_ip has no IPv6 address"),
    ({"nixos_vm_installer_drive": "virtio2"}, "nixos_vm_installer_drive: must be one of ide0 to ide3"),
    ({"nixos_vm_installer_drive": "ide0"}, "nixos_vm_seed_drive: must be another drive"),
    ({"nixos_vm_cpu": "hosst"}, "nixos_vm_cpu: node pve does not have the x86_64 CPU model 'hosst'; did you mean host?"),
    ({"nixos_vm_cpu": "host,flags=+vmx"}, "nixos_vm_cpu: flag 'vmx' is supported in custom CPU models only"),
    ({"nixos_vm_scsi": {"scsi0": "local:400/vm-400-disk-0.raw"}}, "local:400/vm-400-disk-0.raw"),
    ({"nixos_vm_scsi": {"scsi0": {"volume": "local:400/vm-400-disk-0.raw"}}}, "local:400/vm-400-disk-0.raw"),
    ({"nixos_vm_scsi": {"scsi0": {"storage": None, "volume": "local:100/vm-100-disk-9.raw"}}}, "local:100/vm-100-disk-9.raw"),
])
def test_variables_that_cannot_be_used_are_refused_before_anything_is_made(play, given, said):
    writes = play.lab.writes()
    for flags in ((), ("--check",)):
        code, output = play(*flags, "-e", json.dumps(given))
        assert code != 0 and said in re.sub(r"\s+", " ", output), output
    assert play.lab.writes() == writes


def test_a_machine_under_way_is_not_protected_yet(play):
    given = json.dumps({"nixos_vm_config": {"protection": True}, "nixos_vm_tags": ["web"]})
    for _ in range(2):
        code, output = play("--tags", "image,upload,provision", "-e", given)
        assert code == 0, output
    vm = play.vm(state="current")
    assert vm["config"].get("protection", "0") == "0" and vm["tags"] == ["web"], vm


def test_a_protected_machine_is_not_destroyed_in_part(play):
    assert play("--tags", "image,upload,provision")[0] == 0
    play.vm(state="present", protection=True)
    writes = play.lab.writes()
    code, output = play("-e", "nixos_vm_confirm_destroy=web1", playbook="playbooks/destroy.yml")
    assert code != 0 and "is protected in Proxmox VE" in output, output
    assert play.lab.writes() == writes
    play.vm(state="present", protection=False)


def test_a_host_key_that_cannot_be_used_is_reported_and_not_shown(play, tmp_path):
    secret = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ"
    key = f"-----BEGIN OPENSSH PRIVATE KEY-----\\n{secret}\\n-----END OPENSSH PRIVATE KEY-----\\n"
    vault = tmp_path / "vault.yml"
    vault.write_text(f'nixos_vm_ssh_host_key: {{private: "{key}"}}')
    code, output = play("-vvvv", "-e", f"@{vault}")
    assert code != 0 and "nixos_vm_ssh_host_key.private" in output, output
    assert secret not in output and not play.vm(state="current")["exists"], output


def test_only_what_the_role_made_is_forgotten(play):
    assert play("--tags", "image,upload,provision")[0] == 0
    (play.state / "disk.key").write_text("of the user")
    code, output = play("-e", "nixos_vm_confirm_destroy=web1", playbook="playbooks/destroy.yml")
    assert code == 0, output
    assert [file.name for file in play.state.iterdir()] == ["disk.key"]
    (play.state / "disk.key").unlink()
    code, output = play("-e", "nixos_vm_confirm_destroy=web1", playbook="playbooks/destroy.yml")
    assert code == 0 and "changed=0" in output, output


@pytest.mark.parametrize("how", ["import_role", "include_role"])
def test_the_role_may_be_included_in_a_play_of_the_user_s(play, how):
    playbook = play.inventory.parent / "own.yml"
    tasks = f"[{{ansible.builtin.{how}: {{name: nixos_vm}}}}]"
    playbook.write_text(f"- {{hosts: all, gather_facts: false, vars: {{nixos_vm_memory: 8}}, tasks: {tasks}}}\n")
    code, output = play(playbook=str(playbook))
    assert code != 0 and "nixos_vm_memory" in output and "Traceback" not in output, output
    assert not play.vm(state="current")["exists"]
