"""The whole flow, with real guests in software emulation: what Molecule's scenario does not do."""

import os
import re
import signal
import subprocess
import time

import pytest
from conftest import PROJECT, end_lab, environment, start_lab

HOSTS = """
nixos_vms:
  hosts:
    {name}:
      ansible_host: 127.77.0.{number}
      nixos_vm_ip: 10.77.0.{number}/24
      ansible_port: 2222
      # Variables of the host: those of the group would yield to the demo's group_vars.
      nixos_vm_tools_path: {project}/demo/stand-in
      nixos_vm_flake: "{project}/demo/flake#{name}"
      nixos_vm_memory: {memory}
      nixos_vm_install_memory: {install_memory}
"""


class Flow:
    """An inventory of one machine on a test host of its own, and the play that users run."""

    def __init__(self, path, image, name, number, memory, install_memory):
        self.lab = start_lab(path / "lab", image)
        self.name = name
        self.number = number
        self.inventory = path / "inventory"
        self.inventory.mkdir()
        (self.inventory / "group_vars").symlink_to(PROJECT / "inventory/demo/group_vars")
        (self.inventory / "hosts.yml").write_text(
            HOSTS.format(name=name, number=number, project=PROJECT, memory=memory, install_memory=install_memory)
        )
        self.state = self.lab.path / "state" / name

    def command(self, *flags, playbook="provision.yml"):
        return ["ansible-playbook", playbook, "-i", str(self.inventory), *flags]

    def environment(self):
        return environment(NIXOS_PROXMOX_DEMO_DIR=str(self.lab.path))

    def play(self, *flags, playbook="provision.yml"):
        done = subprocess.run(
            self.command(*flags, playbook=playbook),
            cwd=PROJECT,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1200,
            check=False,
        )
        recap = re.search(rf"^{self.name} +: ok=(\d+) +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", done.stdout, re.M)
        assert recap, done.stdout
        return done.stdout, int(recap[2]), int(recap[3]) + int(recap[4])

    def ssh(self, command):
        """Log in as the user does: strictly, against the key that was known beforehand."""
        done = subprocess.run(
            ["ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=30"]
            + ["-o", f"UserKnownHostsFile={self.state}/known_hosts", "-o", "IdentitiesOnly=yes"]
            + ["-i", str(self.lab.path / "ssh/id_ed25519"), "-p", "2222", f"root@127.77.0.{self.number}", command],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        return done.stdout

    def vm_configs(self):
        return sorted((self.lab.path / "pve/qemu-server").glob("*.conf"))

    def isos(self):
        return sorted(p.name for p in (self.lab.path / "pve/storage/local/template/iso").iterdir())

    def assert_installed(self):
        inside = self.ssh("cat /etc/os-release; awk '$2 == \"/\" { print \"root=\" $1 }' /proc/mounts; cat /etc/nixos-proxmox-demo; uptime -s")
        assert "VARIANT_ID=installer" not in inside.replace('"', "")
        assert re.search(r"^root=/dev/[sv]da", inside, re.M), inside
        assert "Put here by nixos-anywhere's --extra-files." in inside
        (config,) = self.vm_configs()
        text = config.read_text()
        assert not re.search(r"^(ide|sata|sshkeys|ci|ipconfig|nameserver|searchdomain|tags)", text, re.M), text
        assert self.isos() == ["installer.iso"]
        assert sorted(p.name for p in self.state.iterdir()) == ["closure", "host_key.pub", "install.log", "known_hosts"]

    def boot_id(self):
        return self.ssh("cat /proc/sys/kernel/random/boot_id")


@pytest.fixture
def tiny(tmp_path):
    flow = Flow(tmp_path, "tiny", "web1", 31, 384, 512)
    yield flow
    end_lab(flow.lab)


@pytest.fixture
def debian(tmp_path):
    flow = Flow(tmp_path, "debian", "web2", 32, 512, 1024)
    yield flow
    end_lab(flow.lab)


def processes_naming(text):
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    command = file.read().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if text in command and "pve-testhost" not in command and "qemu-system" not in command:
                found.append((int(entry), command))
    return found


def wait_until(condition, what, limit):
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, f"waited {limit} s for {what}"
        time.sleep(0.2)


def test_check_kill_and_take_up_again(tiny):
    # A check of an empty host says what would be done, and does nothing.
    output, changed, failed = tiny.play("--check", "--diff")
    assert failed == 0, output
    assert changed >= 2, output
    assert "scsi0" in output and "would" in output, output
    assert tiny.vm_configs() == [] and tiny.isos() == []
    assert tiny.lab.writes() == []

    # Killed in the middle of the installation, with the disk half written ...
    log = tiny.state / "install.log"
    play = subprocess.Popen(
        tiny.command(), cwd=PROJECT, env=tiny.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        wait_until(
            lambda: play.poll() is not None or (log.exists() and "### Installing NixOS ###" in log.read_text(errors="replace")),
            "the installation to write to the disk",
            600,
        )
        assert play.poll() is None, play.communicate()[0]
    finally:
        os.kill(play.pid, signal.SIGKILL)
        play.wait()
    # ... nothing of the run goes on behind our back ...
    wait_until(lambda: not processes_naming(str(tiny.lab.path)), "the processes of the killed run to end", 60)
    assert len(tiny.vm_configs()) == 1

    # ... and the same command ends with the machine installed.
    output, _, failed = tiny.play()
    assert failed == 0, output
    tiny.assert_installed()

    # Again: nothing is changed, nothing is installed, nothing is restarted.
    boot = tiny.boot_id()
    output, changed, failed = tiny.play()
    assert (changed, failed) == (0, 0), output
    output, changed, failed = tiny.play("--check", "--diff")
    assert (changed, failed) == (0, 0), output
    assert tiny.boot_id() == boot

    # It is only destroyed by who names it.
    output, _, failed = tiny.play(playbook="playbooks/destroy.yml")
    assert failed == 1 and "nixos_vm_confirm_destroy=web1" in output, output
    assert tiny.boot_id() == boot
    output, _, failed = tiny.play("-e", "nixos_vm_confirm_destroy=web1", playbook="playbooks/destroy.yml")
    assert failed == 0, output
    assert tiny.vm_configs() == [] and not tiny.state.exists()
    assert tiny.isos() == ["installer.iso"]


def test_real_cloud_init(debian):
    output, _, failed = debian.play()
    assert failed == 0, output
    debian.assert_installed()
    output, changed, failed = debian.play()
    assert (changed, failed) == (0, 0), output
