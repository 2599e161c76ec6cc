"""Runs that are killed, suspended or overtaken: no secret is left behind, and one run at most goes on."""

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("number", "whom"),
    [(signal.SIGKILL, "group"), (signal.SIGTERM, "main"), (signal.SIGINT, "group"), (signal.SIGHUP, "group")],
    ids=["kill", "term", "ctrl-c", "hangup"],
)
def test_a_run_that_is_ended_leaves_no_token(world, number, whom):
    """The file with the arguments of a module is gone once the module has read it."""
    # A child of `nohup` would ignore it, and so would the play.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    web, secret = world.machine(), world.endpoint["api_token_secret"]
    world.faults({"method": "GET", "path": "/*", "action": "delay", "seconds": 10})
    with world.controller.playing([web]) as play:
        # The request log has a line when a request is answered, so the modules' processes are looked for.
        world.wait_until(lambda: play.poll() is not None or module_runs(world.controller), "a module to run")
        time.sleep(0.3)
        (os.killpg if whom == "group" else os.kill)(play.pid, number)
        world.wait_until(lambda: play.poll() is not None, "the play to end", 30)
    world.faults()
    world.wait_until(lambda: not world.controller.files_with(secret), lambda: f"{world.controller.files_with(secret)} to be removed", 5)


def module_runs(controller):
    """Whether a module of the play runs: Ansible starts it from its temporary directory."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    program = file.read().split(b"\0")[0].decode(errors="replace")
            except OSError:
                continue
            if program.startswith(str(controller.path / "ansible")):
                return True
    return False


def test_a_run_that_is_killed_while_the_disks_are_released_leaves_no_host_key(world):
    """The workspace of the installation has the machine's private host key."""
    web = world.machine()
    reached, go_on = threading.Event(), threading.Event()
    web.behaves(before={"release": lambda: (reached.set(), go_on.wait(60))})
    with world.controller.playing([web]) as play:
        world.wait_until(lambda: play.poll() is not None or reached.is_set(), "the installation to end")
        assert reached.is_set(), play.log.read_text()
        os.killpg(play.pid, signal.SIGKILL)
        play.wait()
        left = [world.controller.path / "tmp", world.controller.path / "ansible"]
        world.wait_until(lambda: not keys_below(left), lambda: f"{keys_below(left)} to be removed", 10)
    go_on.set()
    web.behaves()
    web.play().succeeded()
    assert web.vm.record["phase"] == "done"


def keys_below(folders):
    found = []
    # Not rglob: it fails if a directory goes while it is read.
    for path in (Path(place, name) for folder in folders for place, _, names in os.walk(folder) for name in names):
        with contextlib.suppress(OSError):
            content = path.read_bytes()
            # The modules themselves, which Ansible copies, have these words too.
            if b"PRIVATE KEY" in content and not content.startswith(b"\x7fELF"):
                found.append(path)
    return found


def test_a_machine_that_stops_while_it_is_asked_is_not_waited_for(world):
    """The run before was cut off after it had asked for the VM to be stopped."""
    web = world.machine()
    reached = threading.Event()
    web.behaves(before={"format": reached.set})
    with world.controller.playing([web]) as play:
        world.wait_until(lambda: play.poll() is not None or reached.is_set(), "the phase format")
        os.killpg(play.pid, signal.SIGKILL)
    web.behaves(silence="refuse")
    timer = threading.Timer(8, lambda: (web.vm.stop(), web.behaves()))
    timer.start()
    web.play(timeout=200).succeeded()
    assert web.vm.record["phase"] == "done" and web.vm.disk.system


@pytest.mark.parametrize("phase", ["format", "install", "release"])
def test_a_run_that_is_killed_in_the_installation_is_taken_up(world, phase):
    web = world.machine()
    reached = threading.Event()
    web.behaves(before={phase: reached.set})
    with world.controller.playing([web]) as play:
        world.wait_until(lambda: play.poll() is not None or reached.is_set(), f"the phase {phase}")
        os.killpg(play.pid, signal.SIGKILL)
    web.behaves()
    web.play().succeeded()
    assert web.vm.record["phase"] == "done" and web.vm.disk.system
    assert web.play().succeeded().changed == 0


def test_a_suspended_run_stops_when_another_has_taken_its_machine(world):
    """A laptop's lid: the run sleeps in the middle, is thought to be dead, and wakes up."""
    web = world.machine()
    reached, go_on = threading.Event(), threading.Event()
    web.behaves(before={"format": lambda: (reached.set(), go_on.wait(120))})
    with world.controller.playing([web]) as play:
        world.wait_until(lambda: play.poll() is not None or reached.is_set(), "the phase format")
        for pid in tree_of(play.pid):
            os.kill(pid, signal.SIGSTOP)
        web.behaves()
        second = web.play()
        go_on.set()
        if second.code == 0:
            web.vm.store("already in use")
        for pid in tree_of(play.pid):
            os.kill(pid, signal.SIGCONT)
        world.wait_until(lambda: play.poll() is not None, "the first run to end", 120)
        assert (play.returncode == 0) != (second.code == 0), f"{play.log.read_text()}\n{second.output}"
    assert web.vm.record["phase"] == "done" and web.vm.running


def tree_of(pid):
    """A process and all of its descendants."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    parent = int(file.read().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry))
    found = [pid]
    for process in found:
        found += children.get(process, [])
    return found


def test_another_controller_takes_over_a_run_that_is_at_work(world):
    """It cannot know that the first one lives: its own installer gets the machine, and the first run stops."""
    web = world.machine()
    second, plays = world.controller_named("second"), []

    def other_run():
        if not plays:
            plays.append(None)
            plays[0] = web.play(controller=second)

    web.behaves(before={"format": other_run})
    first = web.play()
    assert first.code != 0 and plays[0].code == 0, f"{first.output}\n{plays[0].output}"
    assert web.vm.record["phase"] == "done" and web.vm.disk.system
    # The first controller's keys were not installed: the record has the second one's.
    web.behaves()
    assert web.play().succeeded().changed <= 1


def test_the_same_controller_twice_at_once(world):
    """Cron and a person: one of them installs the machine, once."""
    web = world.machine()
    with world.controller.playing([web]) as first, world.controller.playing([web]) as second:
        world.wait_until(lambda: first.poll() is not None and second.poll() is not None, "both plays", 200)
        logs = first.log.read_text() + second.log.read_text()
        assert 0 in (first.returncode, second.returncode), logs
    if "done" != web.vm.record["phase"]:
        web.play().succeeded()
    assert len(web.vms) == 1 and web.vm.disk.system


@pytest.mark.parametrize("path", ["/nodes/*/qemu", "/nodes/*/storage/*/upload", "/nodes/*/qemu/*/config", "/nodes/*/qemu/*/status/start"])
def test_two_controllers_at_a_new_machine_make_one(world, path):
    """Both find none; while the first is held up at a write, the second overtakes it."""
    web = world.machine()
    second = world.controller_named("second")
    world.faults({"path": path, "nth": 1, "action": "delay", "seconds": 6}, {"path": path, "nth": 2, "action": "delay", "seconds": 0})
    with world.controller.playing([web]) as play:
        other = web.play(controller=second)
        world.wait_until(lambda: play.poll() is not None, "the first run", 200)
        outputs = f"{play.log.read_text()}\n{other.output}"
        # Both end well if the first finds what the second has finished.
        assert 0 in (play.returncode, other.code), outputs
    assert len(web.vms) == 1 and web.vm.record["phase"] == "done" and web.vm.disk.system
    images = [path.name for path in world.pve.glob("storage/local/template/iso/*")]
    assert images == ["installer.iso"], images


def test_a_cluster_that_loses_its_quorum_at_any_time(world):
    """Nothing is half done that the next run does not finish."""
    for phase in ("format", "files", "install", "release"):
        web = world.machine()
        with world.without_quorum() as lose_it:
            web.behaves(before={phase: lose_it})
            web.play().refused("no quorum")
        web.behaves()
        web.play().succeeded()
        assert web.vm.record["phase"] == "done" and web.vm.disk.system, phase
