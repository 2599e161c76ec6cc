"""What a guest says ends no installation, fills no memory, and reaches no terminal as it is."""

import sys

ESCAPES = "\x1b]0;owned\x07\x1b[31mRED\x1b[0m"
NOISE = {
    "git-fails": """echo "### Installing NixOS ###"; echo "Host key verification failed." >&2; echo "Activation script snippet dotfiles failed (128)" >&2""",
    "known-hosts": """echo "Warning: Permanently added 'git.example.org' (ED25519) to the list of known hosts." >&2""",
    "refused": """echo "Connection refused"; echo "Permission denied (publickey)." >&2; echo "aborted: never mind" >&2""",
    "fake-phases": """for x in $(seq 1 100); do echo "### fake $x ###"; done; echo "### Done! ###" """,
    "one-line": """head -c 5000000 /dev/zero | tr "\\0" x""",
    "many-lines": """{ yes "{{ lookup(1) }} $(printf "\\033[31m")" 2>/dev/null || true; } | head -300000""",
    "not-text": """printf "\\xff\\xfe\\x00abc\\n" """,
    "store-path": """echo /nix/store/evil""",
}


def test_words_of_the_installation_do_not_end_it(world, tmp_path):
    hosts = {name: world.machine(f"{name}-") for name in NOISE}
    for name, host in hosts.items():
        (tmp_path / host.address).write_text(NOISE[name])
    play = world.controller.play(list(hosts.values()), environment={"SIMULATED_NOISE": f". {tmp_path}/${{host##*@}}"})
    play.succeeded()
    assert "\x1b" not in play.output and len(play.output) < 200_000
    for name, host in hosts.items():
        assert host.vm.record["phase"] == "done" and host.vm.disk.formats == 1, name
        (log,) = host.state().rglob("install.log")
        assert log.stat().st_size < 20_000_000, name


# Writes the KiB of the largest process that a command started. A process begins with its parent's size, and pytest's has grown by then.
MEASURE = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
open(sys.argv[1], "w").write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)
"""


def test_a_flood_is_refused_with_little_memory(world, tmp_path):
    long_name = 'ID=nixos\nVARIANT_ID=installer\nPRETTY_NAME="' + "x" * 10_000_000 + '"\n'
    floods = [{"flood_facts": 100_000_000}, {"flood": 200_000_000}, {"os_release": long_name}]
    hosts = [world.machine() for _ in floods]
    for host, flood in zip(hosts, floods, strict=True):
        host.behaves(**flood)
    peak_file = tmp_path / "peak"
    launcher = (sys.executable, "-c", MEASURE, str(peak_file))
    play = world.controller.play(hosts, launcher=launcher, nixos_vm_boot_timeout=20).refused(*(host.address for host in hosts))
    assert len(play.output) < 100_000
    peak = int(peak_file.read_text()) // 1024
    assert peak < 300, f"the largest process of the play took {peak} MiB"
    assert [host.vm.disk.formats for host in hosts] == [0, 0, 0]


def test_terminal_escapes_and_templates_stay_text(world):
    behaviours = [
        {"hostname": ESCAPES},
        {"os_release": f'ID=debian\nPRETTY_NAME="{ESCAPES}"\n'},
        {"os_release": 'ID=nixos\nPRETTY_NAME="{{ 7*7 }}"\n_ansible_no_log=1\nansible_facts=1\n', "hostname": '{{ lookup("pipe", "id") }}'},
        {"release_error": f"umount: /mnt: {ESCAPES} is busy\n"},
        {"failed_units": f"unit{ESCAPES}.service loaded failed failed\n"},
    ]
    hosts = [world.machine() for _ in behaviours]
    for host, behaviour in zip(hosts, behaviours, strict=True):
        host.behaves(**behaviour)
    play = world.controller.play(hosts, "-v", nixos_vm_boot_timeout=10)
    assert "\x1b" not in play.output and "\x07" not in play.output
    assert "uid=0" not in play.output


def test_an_installer_that_does_not_answer_ends_with_the_timeout(world):
    hosts = [world.machine() for _ in range(3)]
    for host, silence in zip(hosts, ("refuse", "hang", "stall"), strict=True):
        host.behaves(silence=silence)
    play = world.controller.play(hosts, nixos_vm_boot_timeout=5).refused(*(host.address for host in hosts))
    assert play.seconds < 60, play.seconds
    for host in hosts:
        assert host.vm.disk.formats == 0 and host.vm.record["phase"] == "provisioning"
        host.behaves()
    world.controller.play(hosts).succeeded()


def test_a_key_that_nobody_handed_in_is_refused(world):
    """Nothing is sent to what answers first."""
    web = world.machine()
    web.behaves(host_keys=[world.login_key.read_text()])
    web.play(nixos_vm_boot_timeout=5).refused(web.address)
    assert web.vm.disk.formats == 0 and web.runs() == [0, 0]
