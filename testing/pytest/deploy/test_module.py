"""nixos_deploy under the real Ansible, on a machine whose SSH, watchdog and links are real and whose systems are scripts."""

import json
import os
import signal
import subprocess
import threading
import time

import pytest
from deploy.machine import Machine

from conftest import PROJECT, ansible_module
from hop import JumpHost

UNREACHABLE = 'touch "$LAB/unreachable"'


@pytest.fixture
def machine(tmp_path):
    machine = Machine(tmp_path)
    os.environ["LAB"] = str(tmp_path)
    yield machine
    machine.stop()
    del os.environ["LAB"]


def deploy(machine, *flags, **options):
    options = machine.options(**options)
    return ansible_module("nixos_deploy", {key: value for key, value in options.items() if value is not ...}, flags)


def test_a_configuration_is_shown_deployed_and_then_left_alone(machine):
    machine.system("two", packages=[("openssh-10.2", 30_000), ("nginx-1.29", 50)])
    shown = deploy(machine, "--check", "--diff")
    assert shown.outcome == "CHANGED", shown.output
    assert {package["name"] for package in shown.data["packages"]} == {"openssh", "nginx", "nixos-system-one", "nixos-system-two"}
    assert '+        "openssh": "10.2 (+30000 bytes)"' in shown.output, shown.output
    assert machine.done() == [] and machine.runs() == "one"

    deployed = deploy(machine)
    assert deployed.outcome == "CHANGED", deployed.output
    assert machine.done() == ["test two", "boot two"]
    assert (machine.runs(), machine.boots()) == ("two", "two")
    assert deployed.data["generation"] == 2 and deployed.data["reboot_required"] is False
    assert deployed.data["output"] == ["activating the configuration..."]
    assert machine.left_behind() == []

    again = deploy(machine)
    assert again.outcome == "SUCCESS" and machine.done() == [], again.output


def test_check_mode_alone_builds_nothing(machine):
    machine.system("two")
    assert deploy(machine, "--check").outcome == "CHANGED"
    asked = (machine.path / "nix.log").read_text()
    assert " eval " in f" {asked}" and " build " not in f" {asked}"


def test_a_system_that_cuts_the_machine_off_is_undone(machine):
    two = machine.system("two", hook=UNREACHABLE)
    # The old system brings SSH back.
    one = (machine.path / "store" / two.name.replace("two", "one") / "bin/switch-to-configuration")
    one.write_text(one.read_text().replace("  :\n", '  rm -f "$LAB/unreachable"\n'))
    result = deploy(machine)
    assert result.failed and result.data["error"]["kind"] == "rolled_back", result.output
    assert "did not log in again within 4 s" in result.data["msg"]
    assert machine.done() == ["test two", "test one"]
    assert (machine.runs(), machine.boots()) == ("one", "one")


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        ("exit 2", "the activation ended with exit status 2"),
        ('echo nginx.service >>"$LAB/failed-units"; exit 4', "units failed: nginx.service"),
        ("sleep 30", "the activation did not end within 1 s"),
    ],
)
def test_an_activation_that_fails_is_undone(machine, hook, said):
    machine.system("two", hook=hook)
    (machine.path / "failed-units").write_text("old.service\n")
    result = deploy(machine, activation_timeout=1 if "sleep" in hook else ...)
    assert result.failed and result.data["error"]["kind"] == "rolled_back" and said in result.data["msg"], result.output
    assert (machine.runs(), machine.boots()) == ("one", "one")


def test_units_that_had_failed_before_undo_nothing(machine):
    machine.system("two", hook="exit 4")
    (machine.path / "failed-units").write_text("old.service\n")
    assert deploy(machine).outcome == "CHANGED"
    assert machine.runs() == "two"


def test_a_unit_that_starts_again_and_again_has_failed(machine):
    """Nothing is listed as failed then, and exit status 4 is all that tells."""
    machine.system("two", hook="exit 4")
    result = deploy(machine)
    assert result.failed and result.data["error"]["kind"] == "rolled_back", result.output
    assert machine.runs() == "one"


def test_an_old_system_that_fails_too_is_not_called_running(machine):
    two = machine.system("two", hook="exit 2")
    one = machine.path / "store" / two.name.replace("two", "one") / "bin/switch-to-configuration"
    one.write_text(one.read_text().replace("  :\n", "  exit 2\n"))
    result = deploy(machine)
    assert result.failed and result.data["error"]["kind"] == "activation", result.output


def test_the_switch_of_another_program_is_left_alone(machine):
    machine.system("two", hook="ln -sfn $(readlink -f /run/booted-system) /run/current-system; exit 11")
    result = deploy(machine)
    assert result.failed and result.data["error"]["kind"] == "busy" and result.data["changed"] is False, result.output
    assert machine.done() == ["test two"]


@pytest.mark.parametrize("action", ["switch", "boot"])
def test_power_that_is_lost_while_the_boot_loader_is_written_is_made_good(machine, action):
    crash = '[ ! -e "$LAB/crash" ] || { rm "$LAB/crash"; kill -KILL "-$(cat "$LAB/unit.pid")"; }'
    machine.system("two", boot_hook=crash)
    (machine.path / "crash").touch()
    result = deploy(machine, action=action)
    assert result.failed and result.data["error"]["kind"] == "not_as_left", result.output
    machine.done()
    # The profile says the new one, the boot loader the old one.
    assert machine.boots() == "two"
    again = deploy(machine, action=action)
    assert again.outcome == "CHANGED" and "boot two" in machine.done(), again.output
    assert deploy(machine, action=action).outcome == "SUCCESS"


def test_only_a_generation_that_it_made_is_deleted(machine):
    machine.system("two", boot_hook='[ ! -e "$LAB/full-boot" ] || exit 1')
    assert deploy(machine).data["generation"] == 2
    assert deploy(machine, flake=..., generation="previous").data["generation"] == 1
    (machine.path / "full-boot").touch()
    # It is the newest generation, which is taken again.
    assert deploy(machine).failed
    assert sorted(link.name for link in machine.profile.parent.glob("system-*-link")) == ["system-1-link", "system-2-link"]
    machine.system("three", boot_hook="exit 1")
    assert deploy(machine).failed
    assert sorted(link.name for link in machine.profile.parent.glob("system-*-link")) == ["system-1-link", "system-2-link"]
    assert machine.boots() == "one"


@pytest.mark.parametrize("trouble", ["boot loader", "no room"])
def test_what_cannot_be_booted_is_not_kept(machine, trouble):
    machine.system("two", boot_hook="exit 1" if trouble == "boot loader" else ":")
    if trouble == "no room":
        (machine.path / "full").touch()
    result = deploy(machine)
    assert result.failed and "could not be made the default boot entry" in result.data["msg"], result.output
    assert (machine.runs(), machine.boots()) == ("one", "one")
    # The boot loader was written for the old one again, if it was touched.
    assert machine.done()[-1:] == ["test one"]


def test_actions_do_what_nixos_rebuild_does(machine):
    machine.system("two")
    dry = deploy(machine, action="dry-activate")
    assert dry.outcome == "SUCCESS" and dry.data["output"] == ["would restart the following units: two.service"], dry.output
    assert (machine.runs(), machine.boots(), machine.done()) == ("one", "one", ["dry-activate two"])
    assert deploy(machine, action="test").outcome == "CHANGED"
    assert (machine.runs(), machine.boots(), machine.done()) == ("two", "one", ["test two"])
    assert deploy(machine, action="test").outcome == "SUCCESS"
    assert deploy(machine, action="boot").outcome == "CHANGED"
    assert (machine.runs(), machine.boots(), machine.done()) == ("two", "two", ["boot two"])
    refused = deploy(machine, action="test", reboot="if_needed")
    assert refused.failed and refused.data["msg"].startswith("reboot: "), refused.output


def test_a_generation_comes_back(machine):
    machine.system("two")
    deploy(machine)
    back = deploy(machine, flake=..., generation="previous")
    assert back.outcome == "CHANGED", back.output
    assert (machine.runs(), machine.boots(), back.data["generation"]) == ("one", "one", 1)
    unknown = deploy(machine, flake=..., generation="7")
    assert unknown.failed and unknown.data["error"]["kind"] == "not_found" and "(available: 1, 2)" in unknown.data["msg"]
    assert deploy(machine, flake=..., generation="1").outcome == "SUCCESS"


def test_a_new_kernel_is_reported_and_booted_if_allowed(machine):
    machine.system("two", kernel="k2")
    reported = deploy(machine)
    assert reported.data["reboot_required"] is True and reported.data["rebooted"] is False
    shown = deploy(machine, "--check", reboot="if_needed")
    assert shown.outcome == "CHANGED" and "reboot" not in machine.done()
    booted = deploy(machine, reboot="if_needed")
    assert booted.data["rebooted"] is True and booted.data["reboot_required"] is False, booted.output
    assert machine.done() == ["reboot"]
    assert deploy(machine, reboot="if_needed").outcome == "SUCCESS"


def test_a_machine_that_does_not_come_back_is_reported(machine):
    machine.system("two", kernel="k2")
    (machine.path / "hangs").touch()
    result = deploy(machine, reboot="if_needed", timeout=15)
    assert result.failed and result.data["error"]["kind"] == "timeout" and result.data["changed"] is True, result.output
    assert "did not answer within" in result.data["msg"]


def test_another_machine_at_the_address_is_refused(machine):
    machine.system("two")
    other = (machine.path / "key.pub").read_text()
    result = deploy(machine, host_keys=[other])
    assert result.failed and result.data["error"]["kind"] == "host_key", result.output
    assert machine.done() == []


@pytest.mark.parametrize(("release", "said"), [("ID=nixos\nVARIANT_ID=installer\n", "an installer"), ("ID=debian\n", "another system")])
def test_only_an_installed_nixos_is_touched(machine, release, said):
    machine.system("two")
    (machine.path / "os-release").write_text(release)
    result = deploy(machine)
    assert result.failed and result.data["error"]["kind"] == "refused" and said in result.data["msg"], result.output
    assert machine.done() == []


def test_a_build_that_fails_changes_nothing(machine):
    machine.system("two")
    (machine.path / "broken").touch()
    result = deploy(machine)
    assert result.failed and "it does not build" in result.data["msg"], result.output
    assert machine.done() == []


def test_two_at_once_are_one_after_the_other(machine):
    machine.system("two", hook="sleep 1")
    results = []
    threads = [threading.Thread(target=lambda: results.append(deploy(machine))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result.outcome for result in results) in (["CHANGED", "SUCCESS"], ["CHANGED", "CHANGED"]) or any(
        result.failed and result.data["error"]["kind"] == "busy" for result in results
    ), [result.output for result in results]
    assert (machine.runs(), machine.boots()) == ("two", "two")


@pytest.mark.parametrize("after", [0.3, 0.8, 1.2, 1.6, 2.0, 2.4, 3.0, 4.0])
def test_killed_anywhere_it_ends_in_the_old_or_the_new_system(machine, after):
    machine.system("two", hook="sleep 1", boot_hook='sleep 1; echo "written $system" >>"$LAB/done"', kernel="k2")
    arguments = machine.path / "arguments.json"
    arguments.write_text(json.dumps(machine.options() | {"_ansible_check_mode": False}))
    child = subprocess.Popen([PROJECT / "library/nixos_deploy", arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(after)
    child.send_signal(signal.SIGKILL)
    child.wait()
    # At once, while what the first one began goes on.
    again = deploy(machine, reboot="if_needed")
    assert not again.failed, again.output
    assert (machine.runs(), machine.boots()) == ("two", "two")
    done = machine.done()
    # It is never restarted while the boot loader is written.
    assert done[-2:] == [f"written {machine.profile.resolve()}", "reboot"], done
    assert deploy(machine, reboot="if_needed").outcome == "SUCCESS"


def test_power_that_is_lost_before_the_confirmation_boots_the_old_system(machine):
    machine.system("two", hook=UNREACHABLE)
    thread = threading.Thread(target=lambda: deploy(machine, confirm_timeout=5, timeout=12))
    thread.start()
    for _ in range(100):
        if machine.runs() == "two":
            break
        time.sleep(0.1)
    assert (machine.runs(), machine.boots()) == ("two", "one")
    thread.join()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"host": "root@127.0.0.1"}, "host: "),
        ({"host_keys": ["ssh-ed25519 broken"]}, "host_keys: "),
        ({"user": "-oProxyCommand=x"}, "user: "),
        ({"flake": "no name"}, "flake: "),
        ({"override_inputs": {"--impure": "."}}, "override_inputs: "),
        # It would have to stand on a command line, which every user of the controller can read.
        ({"nix_options": {"access-tokens": "github.com=ghp_0123456789 # mine"}}, "nix_options: "),
        ({"private_key_file": "/nowhere"}, "private_key_file: "),
        ({"confirm_timeout": 0, "activation_timeout": 0}, "2 mistakes:\n- activation_timeout: "),
    ],
)
def test_mistakes_are_found_before_the_machine_is_asked(machine, options, said):
    machine.system("two")
    result = deploy(machine, **options)
    assert result.failed and result.data["msg"].startswith(said), result.output
    assert "ghp_0123456789" not in result.output
    assert machine.done() == []


@pytest.fixture
def hop(machine, tmp_path):
    """A jump host, which alone knows the machine: by a name that no resolver has."""
    hop = JumpHost(tmp_path / "hop")
    hop.knows["web1.invalid", 22] = ("127.0.0.1", machine.port)
    yield hop
    hop.stop()


def test_everything_goes_through_a_jump_host(machine, hop):
    machine.system("two")
    way = {"host": "web1.invalid", "port": 22, **hop.options()}
    deployed = deploy(machine, **way)
    assert deployed.outcome == "CHANGED", deployed.output
    assert machine.done() == ["test two", "boot two"]
    assert (machine.runs(), machine.boots()) == ("two", "two")
    # Looking, the copy, the activation, the new login that confirms it, and more.
    assert len(hop.asked) >= 5 and set(hop.asked) == {("web1.invalid", 22)}
    # The key of the machine is offered to the machine alone.
    assert len(hop.offered) == 1
    again = deploy(machine, **way)
    assert again.outcome == "SUCCESS" and machine.done() == [], again.output
    direct = deploy(machine, host="web1.invalid", port=22)
    assert direct.failed and "web1.invalid" in direct.data["msg"], direct.output


def test_a_system_that_cuts_off_the_jump_host_is_undone(machine, hop):
    """It answers everybody else."""
    machine.system("two", hook='touch "$LAB/active"; until [ -e "$LAB/closed" ]; do sleep 0.1; done')
    watched, progress = machine.path / "active", machine.path / "progress"

    def close():
        while not watched.exists():
            time.sleep(0.05)
        hop.closed = True
        (machine.path / "closed").touch()

    threading.Thread(target=close, daemon=True).start()
    result = deploy(machine, host="web1.invalid", port=22, timeout=20, progress_path=str(progress), **hop.options())
    assert result.failed and result.data["error"]["kind"] == "timeout", result.output
    assert "administratively prohibited" in progress.read_text(), result.output
    # The machine has put its old system back by itself.
    deadline = time.monotonic() + 60
    while machine.runs() != "one" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert (machine.runs(), machine.boots()) == ("one", "one")


# What a user's configuration must not bring about at a jump host, nor at one before it.
SURPRISES = """
Host machine.invalid
  ProxyCommand touch {lab}/surprise-of-the-machine
Host bastion gate
  StrictHostKeyChecking no
  ForwardAgent yes
  ControlMaster auto
  ControlPath {lab}/surprise-control
  ControlPersist 600
  RemoteCommand touch {lab}/surprise-remote
  PermitLocalCommand yes
  LocalCommand touch {lab}/surprise-local
  LogLevel QUIET
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="a configuration for root is mounted")
def test_a_jump_host_is_configured_as_for_ssh_itself(machine, tmp_path):
    """An alias of ~/.ssh/config, which lies behind another jump host; their keys are in the user's known_hosts."""
    gate, inner = JumpHost(tmp_path / "gate"), JumpHost(tmp_path / "inner")
    gate.knows["inner.invalid", 22] = ("127.0.0.1", inner.port)
    inner.knows["machine.invalid", 22] = ("127.0.0.1", machine.port)
    ssh = tmp_path / "ssh"
    ssh.mkdir(mode=0o700)
    known = [f"{name} {hop.host_key.export_public_key().decode()}" for name, hop in ((f"[127.0.0.1]:{gate.port}", gate), ("inner.invalid", inner))]
    hosts = "Host {}\n  HostName {}\n  Port {}\n  User jump\n  IdentityFile {}\n  IdentitiesOnly yes\n"
    config = hosts.format("bastion", "inner.invalid", 22, inner.key) + "  ProxyJump gate\n" + hosts.format("gate", "127.0.0.1", gate.port, gate.key)
    (ssh / "config").write_text(config + SURPRISES.format(lab=tmp_path))
    machine.system("two")
    options = machine.options(host="machine.invalid", port=22, jump_host="bastion")
    (tmp_path / "arguments").write_text(json.dumps({**options, "_ansible_check_mode": False}))
    script = f"mkdir -p /root/.ssh && mount --bind {ssh} /root/.ssh && exec {PROJECT}/library/nixos_deploy {tmp_path}/arguments"

    def run():
        done = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False, timeout=120)
        return json.loads(done.stdout)

    # The jump host before the one that is named has to be known, too.
    (ssh / "known_hosts").write_text(known[1])
    refused = run()
    assert refused["failed"] and refused["error"]["kind"] == "host_key", refused
    assert f"[127.0.0.1]:{gate.port}" in refused["msg"] and gate.offered == set(), refused
    (ssh / "known_hosts").write_text("".join(known))
    deployed = run()
    assert not deployed.get("failed") and machine.done() == ["test two", "boot two"], deployed
    assert set(inner.asked) == {("machine.invalid", 22)} and len(gate.asked) == len(inner.asked) >= 5
    assert [len(hop.offered) for hop in (gate, inner)] == [1, 1]
    assert list(tmp_path.glob("surprise*")) == []
    for hop in (gate, inner):
        hop.stop()


@pytest.mark.parametrize(
    ("wrong", "kind", "said"),
    [
        ({"jump_host_keys": ...}, "host_key", "its host key is not known"),
        ({"jump_host": "nobody@127.0.0.1:{port}"}, "authentication", "refused the login"),
        ({"jump_host": "127.0.0.1:0"}, "invalid_option", "jump_host: must have a port"),
        ({"jump_host": ...}, "invalid_option", "jump_host_keys: requires jump_host"),
    ],
)
def test_a_jump_host_that_cannot_be_used_is_named(machine, hop, wrong, kind, said):
    machine.system("two")
    wrong = {name: value.format(port=hop.port) if isinstance(value, str) else value for name, value in wrong.items()}
    result = deploy(machine, host="web1.invalid", port=22, **{**hop.options(), **wrong})
    assert result.failed and result.data["error"]["kind"] == kind, result.output
    assert said in result.data["msg"], result.output
    assert hop.asked == [] and machine.done() == []
