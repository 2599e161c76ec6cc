"""The whole flow, with real guests in software emulation: what Molecule's scenario does not do."""

import json
import re
import subprocess

import pytest
from machines import Machine, wait_until

# An installer whose kernel has neither an initramfs nor a root file system.
PANICS = """SERIAL 0 115200
DEFAULT installer
PROMPT 0
TIMEOUT 1
LABEL installer
  KERNEL /boot/vmlinuz
  APPEND console=tty0 console=ttyS0,115200
"""


@pytest.fixture
def tiny(tmp_path):
    machine = Machine(tmp_path, "tiny", "web1", 31)
    yield machine
    machine.end()


@pytest.fixture
def debian(tmp_path):
    # Snapshots need qcow2 on a storage of this kind.
    more = "      nixos_vm_machine: q35\n      nixos_vm_scsi: {scsi0: 'local:4,format=qcow2'}\n"
    machine = Machine(tmp_path, "debian", "web2", 32, 512, 1024, more)
    yield machine
    machine.end()


def test_check_kill_and_take_up_again(tiny):
    # A check of an empty host says what would be done, and does nothing.
    output, changed, failed = tiny.play("--check", "--diff")
    assert failed == 0, output
    assert changed >= 2, output
    assert "scsi0" in output and "would" in output, output
    assert tiny.vm_configs() == [] and tiny.isos() == []
    assert tiny.lab.writes() == []

    # Killed in the middle of the installation, with the disk half written ...
    def log():
        path = tiny.installation() / "install.log"
        return path.read_text(errors="replace") if path.exists() else ""

    with tiny.playing() as play:
        wait_until(
            lambda: play.poll() is not None or "### Installing NixOS ###" in log(),
            "the installation to write to the disk",
            600,
        )
        assert play.poll() is None, play.log.read_text()
        tiny.kill("ansible", play)
    # ... nothing of the run goes on behind our back ...
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


def test_a_kernel_that_panics_is_shown(tiny, tmp_path):
    """The last lines of its serial console are in the error, long before the boot's time is over."""
    installer, panics = tiny.lab.path / "installer.iso", tmp_path / "panics.iso"
    (tmp_path / "isolinux.cfg").write_text(PANICS)
    subprocess.run(
        ["xorriso", "-indev", str(installer), "-outdev", str(panics), "-boot_image", "any", "replay", "-map", str(tmp_path / "isolinux.cfg"), "/isolinux/isolinux.cfg"],
        check=True, capture_output=True,
    )
    installer.unlink()
    panics.rename(installer)
    output, _, failed = tiny.play("-e", "nixos_vm_boot_timeout=900")
    assert failed == 1, output
    found = re.search(r"^fatal: \[web1[^\]]*\]: [^\n]*? => (?=\{)", output, re.M)
    answer = json.JSONDecoder().raw_decode(output, found.end())[0]
    assert answer["error"]["kind"] == "boot_failed", output
    assert answer["msg"].startswith("VM 100 (web1): its installer does not come up: its kernel panicked\n"), output
    assert any("Kernel panic - not syncing: VFS: Unable to mount root fs" in line for line in answer["console"]), output
    assert "Unable to mount root fs" in answer["msg"] and "\x1b" not in output, output
    # It is watched from its first lines on.
    log = (tiny.installation() / "console-installer.log").read_text()
    assert "Linux version" in log and log.splitlines()[-len(answer["console"]) :] == answer["console"], log
    assert tiny.phase() == "provisioning"


def test_a_debian_is_installed_and_deployed_to(debian):
    """With the real cloud-init, systemd and OpenSSH in the guest; its systems are scripts."""
    output, _, failed = debian.play()
    assert failed == 0, output
    debian.assert_installed()
    output, changed, failed = debian.play()
    assert (changed, failed) == (0, 0), output

    flake = debian.own_flake()
    deploy = ["-e", "nixos_vm_deploy_timeout=20"]

    def described(**entry):
        flake.write_text(json.dumps({"*": {"guest": True, **entry}}))

    def running():
        return debian.ssh("readlink -f /run/current-system").strip()

    # A change is shown, deployed once, and there after a restart.
    described(version=2, activate="systemctl start ssh")
    old = running()
    output, changed, failed = debian.play(*deploy, "--check", "--diff", playbook="playbooks/deploy.yml")
    assert (changed, failed) == (1, 0) and f'-    "system": "{old}"' in output, output
    assert running() == old
    assert debian.succeed(*deploy, playbook="playbooks/deploy.yml") == 1
    second = running()
    assert second != old and debian.ssh("cat /etc/version") == "2"
    assert debian.succeed(*deploy, playbook="playbooks/deploy.yml") == 0

    # One that stops sshd is undone by the machine itself.
    described(version=3, activate="systemctl stop ssh")
    output, _, failed = debian.play(*deploy, playbook="playbooks/deploy.yml")
    assert failed == 1 and "undone" in output, output
    assert running() == second

    # One that does not boot is rolled back to the snapshot.
    described(version=4, kernel=2, boot="echo halt >/boot/grub/grub.cfg")
    rollback = ["-e", "{nixos_vm_deploy_snapshot: true, nixos_vm_deploy_rollback: true, nixos_vm_deploy_reboot: if_needed, nixos_vm_boot_timeout: 150}"]
    output, _, failed = debian.play(*deploy, *rollback, playbook="playbooks/deploy.yml")
    assert failed == 1 and "was rolled back to the snapshot" in " ".join(output.split()), output
    assert running() == second

    described(version=5, kernel=2, activate="systemctl start ssh")
    boot = debian.boot_id()
    assert debian.succeed(*deploy, *rollback, playbook="playbooks/deploy.yml") == 1
    assert debian.boot_id() != boot and debian.ssh("cat /etc/version") == "5"
    assert not re.search(r"^\[", debian.config(), re.M), debian.config()
    assert debian.succeed(*deploy, *rollback, playbook="playbooks/deploy.yml") == 0
