"""What the role does, and refuses to do, on the way: with simulated guests, which no login reaches."""

import json
import re
import shutil
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
        (self.inventory / "group_vars").symlink_to(PROJECT / "inventory/demo/group_vars")
        self.hosts("web1")

    def hosts(self, *names):
        # Of the host, since the group's are those of the demo, relative to its inventory.
        own = f"{{ansible_host: 127.0.0.1, nixos_vm_flake: '{PROJECT}/demo/flake#web', nixos_vm_tools_path: {PROJECT}/demo/stand-in}}"
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


def test_finalize_alone_never_calls_a_machine_installed(play):
    code, output = play("--tags", "finalize")
    assert code != 0 and "web1 is not installed yet (there is no such VM)" in output, output
    code, output = play("--tags", "upload,provision")
    assert code == 0, output
    before = play.vm(state="current")
    assert [re.sub("[0-9a-f]{8}$", "", tag) for tag in before["tags"]] == ["nixos-provisioning", "nixos-run-"]
    writes = play.lab.writes()
    code, output = play("--tags", "finalize")
    assert code != 0 and "web1 is not installed yet (its tags: nixos-provisioning, nixos-run-" in output, output
    assert play.lab.writes() == writes
    assert play.vm(state="current")["config"] == before["config"]


def test_a_finished_machine_is_never_installed(play):
    """Another controller may have finished it since this run looked; --tags makes the same moment."""
    play.vm(scsi={"scsi0": "local:1"}, tags=["mine"])
    writes = play.lab.writes()
    for flags in (["--tags", "install"], ["--tags", "boot,install,finalize"]):
        code, output = play(*flags)
        assert code == 0 and "changed=0" in output, output
    assert play.lab.writes() == writes and not play.state.exists()
    # Two tags at once: the one that protects the disk counts.
    play.vm(tags=["nixos-installed", "nixos-provisioning"])
    writes = play.lab.writes()
    known = '{"nixos_vm_ssh_host_key": {"public": "ssh-ed25519 AAAA"}}'
    code, output = play("--tags", "boot,install", "-e", known)
    assert code == 0 and play.lab.writes() == writes, output


def test_a_machine_that_was_never_made_is_not_made_half(play):
    code, output = play("--tags", "install")
    assert code != 0 and "web1 does not await an installation (there is no such VM)" in output, output
    assert not play.vm(state="current")["exists"]


def test_what_cannot_be_built_costs_nothing(play):
    assert play("--tags", "upload,provision")[0] == 0
    before = play.vm(state="current")
    code, output = play("--tags", "install", "-e", "nixos_vm_flake=/nonexistent#web1", "-e", f"nixos_vm_tools_path={PROJECT}/demo/stand-in")
    assert code != 0 and "could not find a flake.nix file: /nonexistent" in output, output
    assert play.vm(state="current")["config"] == before["config"]


def test_each_step_may_be_asked_for_alone(play):
    assert play("--tags", "upload,provision")[0] == 0
    code, output = play("--tags", "boot")
    assert code != 0 and re.search(r"127\.0\.0\.1 port 1.*refused", output), output
    assert play.vm(state="current")["status"] == "running"


def test_other_keys_stop_what_read_the_old_ones(play):
    """Else a run that ends before the restart leaves an installer that nobody can log in to."""
    assert play("--tags", "upload,provision")[0] == 0
    play.vm(state="started")
    code, output = play("--tags", "provision")
    assert code == 0 and play.vm(state="current")["status"] == "running", output
    # What another run may be writing to its disk is stopped in any case, and taken over.
    play.vm(tags=["nixos-installing", "nixos-run-other"])
    code, output = play("--tags", "install")
    assert code != 0 and "web1 does not await an installation (its tags: nixos-installing, nixos-run-other)" in output, output
    code, output = play("--tags", "provision")
    assert code == 0 and play.vm(state="current")["status"] == "stopped", output
    assert "nixos-run-other" not in play.vm(state="current")["tags"]
    play.vm(state="started", tags=["nixos-provisioning"])
    shutil.rmtree(play.state)
    # A check of it neither fails nor changes anything.
    writes = play.lab.writes()
    code, output = play("--check", "--diff")
    assert code == 0 and "web1 has no keys here yet" in output, output
    assert play.lab.writes() == writes and not play.state.exists()
    code, output = play("--tags", "provision")
    assert code == 0 and play.vm(state="current")["status"] == "stopped", output


def test_a_check_of_a_machine_under_way_goes_through(play):
    assert play("--tags", "upload,provision")[0] == 0
    writes = play.lab.writes()
    files = sorted((file.name, file.stat().st_mtime_ns) for file in play.state.iterdir())
    code, output = play("--check", "--diff")
    assert code == 0, output
    assert play.lab.writes() == writes
    assert sorted((file.name, file.stat().st_mtime_ns) for file in play.state.iterdir()) == files


def test_an_installed_machine_whose_key_is_lost_says_what_to_do(play):
    play.vm(scsi={"scsi0": "local:1"}, tags=["nixos-installed"])
    writes = play.lab.writes()
    code, output = play()
    assert code != 0 and "give it as nixos_vm_ssh_host_key.public" in output, output
    assert play.lab.writes() == writes


def test_the_tags_of_the_role_are_its_own(play):
    writes = play.lab.writes()
    code, output = play("-e", '{"nixos_vm_tags": ["web", "NixOS-Installed"]}')
    assert code != 0 and "and must not contain nixos-installed" in output, output
    # One item that would be two tags.
    for tag in ("x nixos-installing", "x;nixos-provisioning", "x,nixos-installing"):
        code, output = play("-e", f'{{"nixos_vm_tags": ["{tag}"]}}')
        assert code != 0 and "nixos_vm_tags must be one tag each" in output, output
    assert play.lab.writes() == writes


@pytest.mark.parametrize(("given", "said"), [
    ({"nixos_vm_tags": "web,prod"}, "nixos_vm_tags must be a list"),
    ({"nixos_vm_scsi": {}}, "nixos_vm_scsi must describe the disk"),
    ({"nixos_vm_scsi": {"virtio0": "local:1"}}, "nixos_vm_scsi must describe the disk"),
    ({"nixos_vm_scsi": {"scsi0": {"storage": None, "volume": "local:100/vm-100-disk-9.raw"}}}, "would be overwritten"),
    ({"nixos_vm_ip": "10.77.0.32"}, "nixos_vm_ip must be dhcp, or an IPv4 address"),
    ({"nixos_vm_gateway": "fe80::1"}, "nixos_vm_gateway must be an IPv4 address"),
    ({"nixos_vm_installer_drive": "sata2"}, "nixos_vm_installer_drive must be one of ide0 to ide3"),
    ({"nixos_vm_installer_drive": "ide0"}, "must be two drives"),
    ({"nixos_vm_scsi": {"scsi0": "local:400/vm-400-disk-0.raw"}}, "Whatever is on it would be overwritten"),
    ({"nixos_vm_scsi": {"scsi0": {"volume": "local:400/vm-400-disk-0.raw"}}}, "Whatever is on it would be overwritten"),
])
def test_variables_that_cannot_be_used_are_said_before_anything_is_made(play, given, said):
    writes = play.lab.writes()
    for flags in ((), ("--check",)):
        code, output = play(*flags, "-e", json.dumps(given))
        assert code != 0 and said in re.sub(r"\s+", " ", output), output
    assert play.lab.writes() == writes


def test_a_machine_under_way_is_not_protected_yet(play):
    given = json.dumps({"nixos_vm_config": {"protection": True}, "nixos_vm_tags": ["web", ""]})
    for _ in range(2):
        code, output = play("--tags", "upload,provision", "-e", given)
        assert code == 0, output
    vm = play.vm(state="current")
    assert vm["config"].get("protection", "0") == "0" and "web" in vm["tags"], vm


def test_a_protected_machine_is_not_destroyed_in_part(play):
    assert play("--tags", "upload,provision")[0] == 0
    play.vm(state="present", protection=True)
    writes = play.lab.writes()
    code, output = play("-e", "nixos_vm_confirm_destroy=web1", playbook="playbooks/destroy.yml")
    assert code != 0 and "web1 is protected in Proxmox VE" in output, output
    assert play.lab.writes() == writes
    play.vm(state="present", protection=False)


def test_an_installed_machine_boots_from_the_disk_that_it_is_on(play):
    play.vm(scsi={"scsi2": "local:1"}, boot="order=scsi2")
    code, output = play("--tags", "provision", "-e", '{"nixos_vm_scsi": {"scsi2": "local:1", "scsi10": "local:1"}}')
    config = play.vm(state="current")["config"]
    assert code == 0 and config["boot"] == "order=scsi2" and "scsi10" in config, output
    writes = play.lab.writes()
    code, output = play("--tags", "provision", "-e", '{"nixos_vm_scsi": {"scsi2": "local:1", "scsi1": "local:1"}}')
    assert code != 0 and "scsi1, which it would boot from" in output, output
    assert play.lab.writes() == writes


def test_two_hosts_are_never_one_machine(play):
    play.hosts("web1.example.org", "web1.example.net")
    code, output = play("--tags", "upload,provision")
    assert code != 0 and "Several hosts of this play would be one VM" in output, output
    assert not play.vm(state="current")["exists"]
    # Whatever they are called, and wherever that is said.
    playbook = play.inventory.parent / "own.yml"
    names = "{{ inventory_hostname | replace('.', '-') }}", "web"
    for name, made in zip(names, (True, False), strict=True):
        playbook.write_text(f"- {{hosts: all, gather_facts: false, vars: {{nixos_vm_name: \"{name}\"}}, roles: [nixos_vm]}}\n")
        code, output = play("--tags", "upload,provision", playbook=str(playbook))
        assert (code == 0) == made and ("Several hosts of this play would be one VM" in output) != made, output
    play.hosts("web1")


def test_a_host_key_that_cannot_be_used_is_said_so_and_not_shown(play, tmp_path):
    secret = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ"
    key = f"-----BEGIN OPENSSH PRIVATE KEY-----\\n{secret}\\n-----END OPENSSH PRIVATE KEY-----\\n"
    vault = tmp_path / "vault.yml"
    vault.write_text(f'nixos_vm_ssh_host_key: {{private: "{key}"}}')
    code, output = play("-vvvv", "-e", f"@{vault}")
    assert code != 0 and "from nixos_vm_ssh_host_key.private" in output, output
    assert "Load key" in output and secret not in output, output


def test_only_what_the_role_made_is_forgotten(play):
    assert play("--tags", "upload,provision")[0] == 0
    (play.state / "disk.key").write_text("of the user")
    code, output = play("-e", "nixos_vm_confirm_destroy=web1", playbook="playbooks/destroy.yml")
    assert code == 0, output
    assert [file.name for file in play.state.iterdir()] == ["disk.key"]
    (play.state / "disk.key").unlink()
    code, output = play("-e", "nixos_vm_confirm_destroy=web1", playbook="playbooks/destroy.yml")
    assert code == 0 and not play.state.exists(), output
    code, output = play("-e", "nixos_vm_confirm_destroy=web1", playbook="playbooks/destroy.yml")
    assert code == 0 and "changed=0" in output, output


def make_keys(directory, given=""):
    script = PROJECT / "roles/nixos_vm/files/make-keys.sh"
    done = subprocess.run(["sh", script, directory, "web1"], input=given, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.split()


def test_keys_are_pairs_whenever_their_making_ends(tmp_path):
    def is_pair(name):
        derived = subprocess.run(["ssh-keygen", "-y", "-f", keys / name], capture_output=True, text=True, check=True)
        return derived.stdout.split()[:2] == (keys / f"{name}.pub").read_text().split()[:2]

    keys = tmp_path / "keys"
    names = ["installer_client_key", "installer_host_key", "host_key"]
    assert len(make_keys(keys)) == 6
    assert make_keys(keys) == [] and all(is_pair(name) for name in names)
    assert keys.stat().st_mode & 0o777 == 0o700
    assert {(keys / name).stat().st_mode & 0o777 for name in names} == {0o600}

    # What a run leaves that is killed between the two halves of a pair.
    other = tmp_path / "other"
    make_keys(other)
    (keys / "host_key.pub").unlink()
    shutil.copy(other / "host_key", keys / "host_key")
    make_keys(keys)
    assert is_pair("host_key")
    (keys / "host_key").unlink()
    make_keys(keys)
    assert is_pair("host_key")

    # A given one takes the place of one that was made.
    given = (other / "host_key").read_text().rstrip("\n")
    assert make_keys(keys, given) == ["made", "host_key"]
    assert is_pair("host_key") and make_keys(keys, given) == []
    assert sorted(p.name for p in keys.iterdir()) == sorted([*names, *(f"{name}.pub" for name in names)])
