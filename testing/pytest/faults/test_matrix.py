"""The kill matrix: the play is stopped at every point, and then run again.

Points of a run are its API calls, counted without the polls of tasks, whose number varies: a run may
be stopped before each call, and after each that changes something, with the effect done and the
answer lost. The test host then answers nothing any more until the victim (the running module, or
ansible-playbook, in turns) has got its SIGKILL; the dead module's connections are dropped.

To stay bounded, not every point is followed by a whole installation, which takes minutes:

* Up to the boot (`test_every_call_before_the_boot`) each point is taken alone: stopped, run again to
  the end of these steps, compared with what an undisturbed run leaves, removed, compared with nothing.
* The rest (`test_every_call_from_the_boot_on`) is one machine whose play is stopped at its first
  call, then at its second, and so on. Counting starts anew when the machine's phase has moved, so
  each call of each phase is hit; the run that no longer meets its point must end with the machine
  installed, once.
* The phases of the installation, lost power and the test host's faults go the same way.

`make test-faults` runs it all; `make test` runs what is marked as `sample`.
"""

import random
import re
from pathlib import Path

import pytest
from machines import Machine, wait_until

# Everything but tasks, which are polled.
CALLS = r"^/(nodes|version|access/.*|cluster/.*|nodes/[^/]+/(qemu|storage|network)(/.*)?)$"
BEFORE_BOOT = ("--tags", "image,upload,provision")
PHASES = [
    "Uploading install SSH keys",
    "Gathering machine facts",
    "Formatting hard drive with disko",
    "Uploading the system closure",
    "Copying extra files",
    "Installing NixOS",
]


@pytest.fixture
def machine(tmp_path):
    machine = Machine(tmp_path, "tiny", "web1", random.randrange(60, 250))  # several of these may run at once
    yield machine
    machine.end()


def cut(machine, call, after, victim, *flags):
    """Run the play up to its `call`-th call and kill it there. False: it had no such call."""
    rules = [{"path": CALLS, "nth": call + after, "times": 10**9, "action": "drop-before"}]
    if after:
        rules.insert(0, {"path": CALLS, "nth": call, "action": "drop-after"})
    machine.faults(*rules)
    begin = len(machine.requests())

    def met():
        return any(request["status"] is None for request in machine.requests()[begin:])

    with machine.playing(*flags) as play:
        wait_until(lambda: play.poll() is not None or met(), "the call to be made", 600)
        machine.kill(victim, play)
    machine.faults()
    ran_through = not met()
    if ran_through:
        assert play.returncode == 0, play.log.read_text()
    else:
        assert play.returncode != 0, play.log.read_text()
    assert len(machine.vm_configs()) <= 1
    return not ran_through


def essence(machine):
    """The VM's configuration without what differs between any two VMs."""
    # The record in the notes has the ID, the UUIDs, the run and the keys.
    config = re.sub(r"(uuid=|generation=|vmgenid: |ctime=|virtio=|installation=|run=|_key=)[^,; \n]*", r"\1", machine.config())
    return re.sub(r"[0-9a-f]{12}\.iso", "HEX.iso", config)


def calls_before_boot(machine):
    """The calls of an undisturbed run, its result; and with it all gone again."""
    machine.succeed(*BEFORE_BOOT)
    made = [request for request in machine.requests() if re.search(CALLS, request["path"])]
    result = (machine.holds(), essence(machine))
    machine.destroy()
    remove_installer(machine)
    return made, result, machine.holds()


def remove_installer(machine):
    """The image stays on the storage when a machine is destroyed."""
    for path in (machine.lab.path / "pve/storage/local/template/iso").iterdir():
        assert path.name == "installer.iso"
        path.unlink()


def stop_before_boot(machine, call, after, victim, result, nothing):
    assert cut(machine, call, after, victim, *BEFORE_BOOT)
    machine.succeed(*BEFORE_BOOT)
    holds, config = result
    more, less = sorted(set(machine.holds()) - set(holds)), sorted(set(holds) - set(machine.holds()))
    assert (more, less, essence(machine)) == ([], [], config), (call, after, victim)
    machine.destroy()
    remove_installer(machine)
    assert machine.holds() == nothing, (call, after, victim)


def test_every_call_before_the_boot(machine):
    made, result, nothing = calls_before_boot(machine)
    points = [(call, after) for call, request in enumerate(made, 1) for after in range(1 + (request["method"] != "GET"))]
    for turn, (call, after) in enumerate(points):
        victims = ["module", "ansible"] if made[call - 1]["method"] != "GET" else [("module", "ansible")[turn % 2]]
        for victim in victims:
            print(f"call {call} {made[call - 1]['method']} {made[call - 1]['path']}, {'after' if after else 'before'}, {victim}", flush=True)
            stop_before_boot(machine, call, after, victim, result, nothing)


@pytest.mark.sample
def test_the_writes_before_the_boot(machine):
    """The VM's creation, and the seed's upload, with their effects done."""
    made, result, nothing = calls_before_boot(machine)
    writes = [call for call, request in enumerate(made, 1) if request["method"] == "POST"]
    stop_before_boot(machine, writes[1], 1, "module", result, nothing)
    stop_before_boot(machine, writes[2], 1, "ansible", result, nothing)


def test_every_call_from_the_boot_on(machine):
    machine.succeed(*BEFORE_BOOT)
    call, turn, phase = 0, 0, machine.phase()
    while True:
        call, turn = call + 1, turn + 1
        if not cut(machine, call, turn % 3 > 0, ("module", "ansible")[turn % 2]):
            break
        print(f"turn {turn}, call {call}: {machine.phase()}, installations {machine.installations()}", flush=True)
        if machine.phase() != phase:
            phase, call = machine.phase(), 0
    machine.assert_installed()
    assert machine.installations().count("0") == 1, machine.runs.read_text()
    assert machine.succeed() == 0


def stop_in_phase(machine, phase, victim):
    for log in machine.state.rglob("install.log"):
        log.unlink()
    with machine.playing() as play:
        reached = lambda: any(f"### {phase} ###" in log.read_text(errors="replace") for log in machine.state.rglob("install.log"))  # noqa: E731
        wait_until(lambda: play.poll() is not None or reached(), phase, 600)
        assert play.poll() is None, play.log.read_text()
        if victim == "guest":
            machine.end_guest()
        else:
            machine.kill(victim, play)
    assert play.returncode != 0, play.log.read_text()
    assert len(machine.vm_configs()) == 1 and machine.phase() == "installing"


@pytest.mark.parametrize("victim", ["module", "ansible", "guest"])
def test_every_phase_of_the_installation(machine, victim):
    for phase in PHASES:
        print(phase, flush=True)
        stop_in_phase(machine, phase, victim)
    machine.succeed()
    machine.assert_installed()
    assert machine.installations().count("0") == 1, machine.runs.read_text()


def test_power_lost_while_the_guest_boots(machine):
    """Once the installer, once the installed system."""
    # The second run starts the installer once more, and then what it has installed.
    for boot, before in enumerate(("provisioning", "installed"), 1):
        begin = len(machine.requests())

        def booting(boot=boot, before=before, begin=begin):
            starts = [r for r in machine.requests()[begin:] if r["path"].endswith("/status/start")]
            return machine.phase() == before and len(starts) == boot and any(Path(p).exists() for p in machine.lab.path.glob("pve/run/*/qmp.sock"))

        with machine.playing("-e", "nixos_vm_boot_timeout=120") as play:
            wait_until(lambda: play.poll() is not None or booting(), "the guest to boot", 600)
            assert play.poll() is None, play.log.read_text()
            machine.end_guest()
        assert machine.phase() == before
    machine.succeed()
    machine.assert_installed()
    assert machine.installations() == ["0"]


# Each of the play's writes, by method and path; `nth` of those, and what the call has in its way.
WRITES = [
    ("POST", "/nodes/*/storage/*/upload", 1),
    ("POST", "/nodes/*/qemu", 1),
    ("POST", "/nodes/*/storage/*/upload", 2),
    ("PUT", "/nodes/*/qemu/*/config", 1),
    ("POST", "/nodes/*/qemu/*/status/start", 1),
    ("PUT", "/nodes/*/qemu/*/config", 4),
    ("POST", "/nodes/*/qemu/*/status/shutdown", 1),
    ("PUT", "/nodes/*/qemu/*/config", 6),
    ("DELETE", "/nodes/*/storage/*/content/*", 1),
    ("POST", "/nodes/*/qemu/*/status/start", 2),
]
TROUBLE = {
    "drop-before": {"action": "drop-before"},
    "drop-after": {"action": "drop-after"},
    "503": {"action": "status", "status": 503},
    "596-after-effect": {"action": "596-after-effect"},
    "lock": {"action": "lock"},
    "task-fail": {"action": "task-fail", "message": "got signal 15"},
    "full": {"action": "full"},
}


@pytest.mark.parametrize("trouble", [pytest.param(name, marks=[pytest.mark.sample] * (name == "drop-after")) for name in TROUBLE])
def test_trouble_with_each_write(machine, trouble):
    """Each write meets the trouble once. Runs that it ends are repeated; there are not more of them than writes."""
    machine.faults(*({"method": method, "path": path, "nth": nth, **TROUBLE[trouble]} for method, path, nth in WRITES))
    for attempt in range(len(WRITES) + 1):
        output, _, failed = machine.play()
        said = re.search(r"^fatal: .*?\"msg\": \"(.*?)\"", output, re.M | re.S)
        print(f"{trouble}: run {attempt + 1}: {said[1] if said else 'went through'}", flush=True)
        assert len(machine.vm_configs()) <= 1
        if not failed:
            break
        assert "Traceback" not in output and "panicked" not in output, output
    assert failed == 0, output
    # A node keeps the file of an upload that failed after its last byte, until its own cleaner removes it.
    for refused in (machine.lab.path / "pve/tmp").glob("pveupload-*"):
        refused.unlink()
    machine.assert_installed()
    assert machine.installations().count("0") == 1, machine.runs.read_text()
    assert machine.succeed() == 0


def test_two_controllers_at_once(machine):
    """Both find no machine. One makes it, one ends its installation: they are not told apart from a run that died and the next one."""
    controllers = [(), ("-e", f"nixos_vm_state_root={machine.lab.path / 'other'}")]
    with machine.playing(*controllers[0]) as first, machine.playing(*controllers[1]) as second:
        for play in (first, second):
            wait_until(lambda play=play: play.poll() is not None, "the plays to end", 900)
    codes = [play.returncode for play in (first, second)]
    assert 0 in codes, [play.log.read_text() for play in (first, second)]
    assert len(machine.vm_configs()) == 1 and machine.phase() == "done" and "0" in machine.installations()
    # Who ended it finds nothing to do.
    assert machine.succeed(*controllers[codes.index(0)]) == 0
