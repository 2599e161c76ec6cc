"""The whole flow, with real guests in software emulation: what Molecule's scenario does not do."""

import pytest
from machines import Machine, wait_until

@pytest.fixture
def tiny(tmp_path):
    machine = Machine(tmp_path, "tiny", "web1", 31)
    yield machine
    machine.end()


@pytest.fixture
def debian(tmp_path):
    machine = Machine(tmp_path, "debian", "web2", 32, 512, 1024, "      nixos_vm_machine: q35\n")
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


def test_real_cloud_init(debian):
    output, _, failed = debian.play()
    assert failed == 0, output
    debian.assert_installed()
    output, changed, failed = debian.play()
    assert (changed, failed) == (0, 0), output
