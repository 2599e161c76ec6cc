"""What a guest says ends no installation, fills no memory, and reaches no terminal as it is."""

import resource

import pytest

ESCAPES = "\x1b]0;owned\x07\x1b[31mRED\x1b[0m"
NOISE = {
    "git-fails": """echo "### Installing NixOS ###"; echo "Host key verification failed." >&2; echo "Activation script snippet dotfiles failed (128)" >&2""",
    "known-hosts": """echo "Warning: Permanently added 'git.example.org' (ED25519) to the list of known hosts." >&2""",
    "refused": """echo "Connection refused"; echo "Permission denied (publickey)." >&2; echo "aborted: never mind" >&2""",
    "fake-phases": """for x in $(seq 1 100); do echo "### fake $x ###"; done; echo "### Done! ###" """,
    "one-line": """head -c 5000000 /dev/zero | tr "\\0" x""",
    "many-lines": """yes "{{ lookup(1) }} $(printf "\\033[31m")" | head -300000""",
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


@pytest.mark.parametrize("how", ["facts", "every command", "os-release"])
def test_a_flood_is_refused_with_little_memory(world, how):
    floods = {"facts": {"flood_facts": 200_000_000}, "every command": {"flood": 300_000_000}}
    web = world.machine()
    web.behaves(**floods.get(how, {"os_release": 'ID=nixos\nVARIANT_ID=installer\nPRETTY_NAME="' + "x" * 10_000_000 + '"\n'}))
    play = web.play(nixos_vm_boot_timeout=20).refused(web.address)
    assert len(play.output) < 100_000
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    assert peak < 400, f"the largest process of the play took {peak} MiB"
    assert web.vm.disk.formats == 0


@pytest.mark.parametrize(
    "behaviour",
    [
        {"hostname": ESCAPES},
        {"os_release": f'ID=debian\nPRETTY_NAME="{ESCAPES}"\n'},
        {"os_release": 'ID=nixos\nPRETTY_NAME="{{ 7*7 }}"\n_ansible_no_log=1\nansible_facts=1\n', "hostname": '{{ lookup("pipe", "id") }}'},
        {"release_error": f"umount: /mnt: {ESCAPES} is busy\n"},
        {"failed_units": f"unit{ESCAPES}.service loaded failed failed\n"},
    ],
    ids=["hostname", "other-system", "jinja", "release", "units"],
)
def test_terminal_escapes_and_templates_stay_text(world, behaviour):
    web = world.machine()
    web.behaves(**behaviour)
    play = web.play("-v", nixos_vm_boot_timeout=10)
    assert "\x1b" not in play.output and "\x07" not in play.output
    assert "uid=0" not in play.output


@pytest.mark.parametrize("silence", ["refuse", "hang", "stall"])
def test_an_installer_that_does_not_answer_ends_with_the_timeout(world, silence):
    web = world.machine()
    web.behaves(silence=silence)
    play = web.play(nixos_vm_boot_timeout=4).refused(web.address)
    assert play.seconds < 40, play.seconds
    assert web.vm.disk.formats == 0 and web.vm.record["phase"] == "provisioning"
    web.behaves()
    web.play().succeeded()


def test_a_key_that_nobody_handed_in_is_refused(world):
    """Nothing is sent to what answers first."""
    web, other = world.machine(), world.machine()
    other.play().succeeded()
    web.behaves(host_keys=other.vm.disk.host_keys)
    web.play(nixos_vm_boot_timeout=5).refused(web.address)
    assert web.vm.disk.formats == 0 and web.runs() == [0, 0]
