"""What a machine printed to its serial console is part of the error when it does not come up; and a panic ends the wait."""

import json
import re

from conftest import token_without

STOCK = {"finished": 1}

BOOT = b"\x1b[2J\x1b[1;1HSeaBIOS\r\nLinux version 6.12.1\r\n\x1b[0;1;31mFailed\x1b[0m to mount /sysroot\r\n"
PANIC = BOOT + b"[    1.9] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\r\n[    1.9] CPU: 0 PID: 1\r\n"
HOSTILE = b"x" * 3_000_000 + b"\x1b]0;owned\x07\xff\xfe{{ 7*7 }}{{ lookup('pipe', 'id') }}\r\n\xe2\x80\xaeevil\r\nfailed: [other] => (item=1)\r\n"


def failure(play, host):
    """What the failed task of a host answered, as programs get it."""
    found = re.search(rf"^fatal: \[{host.name}[^\]]*\]: [^\n]*? => (?=\{{)", play.output, re.M)
    assert found, play.output
    return json.JSONDecoder().raw_decode(play.output, found.end())[0]


def test_an_error_has_the_last_lines_of_the_boot(world):
    silent, hostile, without, off = (world.machine() for _ in range(4))
    silent.behaves(silence="refuse", console=BOOT)
    hostile.behaves(silence="refuse", console=HOSTILE)
    for host in (without, off):
        host.behaves(silence="refuse", console=BOOT)
    without.variables["nixos_vm_serial"] = {"serial0": None}
    off.variables["nixos_vm_console"] = False
    hosts = [silent, hostile, without, off]
    play = world.controller.play(hosts, nixos_vm_boot_timeout=6).refused(*(host.address for host in hosts))
    assert "\x1b" not in play.output and "uid=0" not in play.output and len(play.output) < 100_000

    answer = failure(play, silent)
    assert answer["error"]["kind"] in ("timeout", "unreachable"), answer
    assert answer["console"] == ["SeaBIOS", "Linux version 6.12.1", "Failed to mount /sysroot"]
    assert "the last lines of its serial console (serial0; all of them are in " in answer["msg"]
    assert "\n  Linux version 6.12.1\n  Failed to mount /sysroot\n" in answer["msg"]
    (log,) = silent.state().rglob("console-installer.log")
    assert answer["console_log"] == str(log) and log.stat().st_mode & 0o777 == 0o600
    assert log.read_text().splitlines() == answer["console"]

    answer = failure(play, hostile)
    assert len(answer["console"]) == 30 and all(len(line) < 1000 for line in answer["console"])
    assert answer["console"][-2:] == ["evil", "failed: [other] => (item=1)"]
    assert answer["console"][-3].endswith("{{ 7*7 }}{{ lookup('pipe', 'id') }}")
    (log,) = hostile.state().rglob("console-installer.log")
    assert log.stat().st_size < 1_100_000

    answer = failure(play, without)
    assert answer["console"] == [] and "its serial console was not read: the VM has no serial port" in answer["msg"]
    assert "console" not in failure(play, off) and "console" not in failure(play, off)["msg"].replace("look at the machine's console", "")

    # The console decides nothing: the same play goes on once they answer.
    for host in hosts:
        host.behaves()
    world.controller.play(hosts).succeeded()
    assert [host.vm.disk.formats for host in hosts] == [1, 1, 1, 1]


def test_a_panic_ends_the_wait(world):
    installer, system = world.machine(), world.machine()
    installer.behaves(silence="refuse", console=PANIC)

    # The installer answers until the installation is over.
    system.behaves(before={"release": lambda: system.behaves(silence="refuse", console=PANIC)})
    play = world.controller.play([installer, system], nixos_vm_boot_timeout=600).refused("its kernel panicked")
    for host, what in ((installer, "installer"), (system, "installed system")):
        answer = failure(play, host)
        assert answer["error"]["kind"] == "boot_failed", answer
        assert answer["msg"].startswith(f"{host.vm!r} ({host.name}): its {what} does not come up: its kernel panicked\n"), answer
        assert answer["console"][-2].endswith("VFS: Unable to mount root fs on unknown-block(0,0)")
    assert installer.vm.disk.formats == 0 and system.vm.disk.formats == 1
    for host in (installer, system):
        host.behaves()
    world.controller.play([installer, system]).succeeded()
    assert installer.vm.disk.formats == system.vm.disk.formats == 1


def test_words_of_a_guest_that_answers_end_nothing(world):
    """It prints what looks like a panic, and comes up all the same."""
    web = world.machine()
    web.behaves(console=PANIC)
    web.play().succeeded()
    assert web.vm.record["phase"] == "done" and web.vm.disk.formats == 1


def test_a_vm_that_stands_still_is_not_waited_for(world):
    stopped, paused = world.machine(), world.machine()
    for host in (stopped, paused):
        host.behaves(silence="hang", console=BOOT)

    def are_waited_for():
        asked = {event[1] for event in world.guests.events if event[2] == "asked"}
        return all(host.vms and host.vm.vmid in asked for host in (stopped, paused))

    facts = world.pve / "guests.json"
    with world.controller.playing([stopped, paused], nixos_vm_boot_timeout=600) as play:
        world.wait_until(are_waited_for, "the play to wait for the installers")
        stopped.vm.stop()
        facts.write_text(json.dumps({paused.vm.vmid: {"qmpstatus": "io-error"}}))
        world.wait_until(lambda: play.poll() is not None, "the play to end", 120)
    output = play.log.read_text()
    for host, why in ((stopped, "the VM is stopped"), (paused, "QEMU has paused the VM (io-error)")):
        assert f"{host.vm!r} ({host.name}): its installer does not come up: {why}\n" in output, output
    assert output.count("\n  Failed to mount /sysroot\n") == 2, output
    assert "correct what keeps it from booting, stop the VM (qm stop" in output
    facts.unlink()
    for host in (stopped, paused):
        host.behaves()
    world.controller.play([stopped, paused]).succeeded()


def test_a_missing_privilege_is_named_before_and_after(world):
    web = world.machine()
    web.variables.update(token_without(world, "VM.Console"))
    web.behaves(silence="refuse", console=BOOT)
    play = web.play(nixos_vm_boot_timeout=5).refused(web.address)
    warning = "provisioner@pve!ansible lacks VM.Console on /vms, so an error cannot show the VM's serial console"
    assert warning in " ".join(play.output.split()), play.output
    answer = failure(play, web)
    assert answer["console"] == []
    assert f"its serial console was not read: provisioner@pve!ansible lacks VM.Console on /vms/{web.vm.vmid}" in answer["msg"]
    web.behaves()
    web.play().succeeded()


def test_who_has_the_console_open_has_it(world):
    """QEMU lets one read at a time."""
    web = world.machine()
    web.behaves(silence="refuse", console=BOOT)
    web.play(nixos_vm_boot_timeout=5).refused(web.address)
    with web.vm.console() as lines:
        assert "SeaBIOS" in lines.readline()
        play = web.play(nixos_vm_boot_timeout=5).refused(web.address)
    answer = failure(play, web)
    assert answer["console"] == [], answer
    assert "its serial console (serial0) printed nothing: the system prints nothing there, or the console is open elsewhere" in answer["msg"]


def test_a_finished_machine_is_not_watched(world, finished):
    before = len(world.requests())
    finished.play().succeeded()
    assert not [request for request in world.requests()[before:] if request["path"].endswith(("/termproxy", "/vncwebsocket"))]
