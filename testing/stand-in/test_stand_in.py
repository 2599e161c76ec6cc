"""The stand-ins' command lines, and what nixos-anywhere does over SSH: with an ssh that only takes notes."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent

# Answers as the installer would; every call is noted, and what went into it is kept.
SSH = r"""#!/bin/bash
for word in "$@"; do if [ "$word" = -G ]; then printf 'user %s\nhostname h\n' "${SSH_USER:-root}"; exit; fi; done
command=
while [ $# -gt 0 ]; do
  case $1 in
    -o|-i|-p) printf '%s %s\n' "$1" "$2" >>"$NOTES/options"; shift 2 ;;
    -*) shift ;;
    *) host=$1; shift; command="$*"; break ;;
  esac
done
printf '%s: %s\n' "$host" "$command" >>"$NOTES/commands"
case $command in
  enable*) cat >/dev/null; printf 'isOs=Linux\nisInstaller=%s\nisRoot=%s\nhasTar=y\nhasCpio=%s\nhasSetsid=y\nhasSudo=%s\nhasDoas=n\n' \
    "${INSTALLER:-y}" "${ROOT:-y}" "${CPIO:-y}" "${SUDO:-y}" ;;
  *-disko) exit "${DISKO:-0}" ;;
  *) cat >>"$NOTES/stdin" ;;
esac
"""
COPY_ID = """#!/bin/bash
echo "ssh-copy-id $*" >>"$NOTES/commands"
[ "$(grep -c ssh-copy-id "$NOTES/commands")" -gt "${REFUSALS:-0}" ]
"""


@pytest.fixture
def lab(tmp_path):
    for name, text in {"ssh": SSH, "ssh-copy-id": COPY_ID}.items():
        file = tmp_path / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)
    flake = tmp_path / "flake"
    flake.mkdir()
    (flake / "flake.nix").write_text("{ outputs = { self }: { }; }")
    entries = {"web1": {"hostName": "web-one", "authorizedKeys": ["ssh-ed25519 AAAA me"]}, "a.b": {"device": "/dev/vdb"}}
    (flake / "stand-in.json").write_text(json.dumps(entries))
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    return tmp_path


def run(lab, program, *arguments, **environment):
    variables = os.environ | {
        "PATH": f"{lab}/bin:{os.environ['PATH']}", "HOME": f"{lab}/home", "NOTES": str(lab),
        "STAND_IN_STORE": f"{lab}/store", **environment,
    }
    return subprocess.run(
        [HERE / program, *arguments], env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )


def install(lab, *arguments, **environment):
    result = run(lab, "nixos-anywhere", *arguments, **environment)
    notes = lab / "commands"
    return result, notes.read_text().splitlines() if notes.exists() else []


def steps(result):
    return re.findall(r"^### (.*) ###$", result.stdout, re.M)


def build(lab, *installables):
    result = run(lab, "nix", "build", "--no-link", "--print-out-paths", "--option", "cores", "2", *installables)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def test_built_paths_are_named_after_their_content(lab):
    attribute = f"{lab}/flake#nixosConfigurations.web1.config.system.build."
    system, disko = build(lab, attribute + "toplevel", attribute + "diskoScript")
    assert re.fullmatch(r".*/[0-9a-z]{32}-nixos-system-web-one-26\.05\.stand-in", system)
    assert (Path(system) / "etc/hostname").read_text() == "web-one\n"
    assert (Path(system) / "etc/ssh/authorized_keys.d/root").read_text() == "ssh-ed25519 AAAA me\n"
    assert os.access(disko, os.X_OK)
    assert build(lab, attribute + "toplevel") == [system]
    other = f'{lab}/flake#nixosConfigurations."a.b".config.system.build.'
    (disko,) = build(lab, other + "diskoScript")
    assert "device=/dev/vdb" in Path(disko).read_text()


def test_facts_come_through_the_roles_wrapper(lab):
    """As the real Nix builds it: testing/nix/wrapper.sh."""
    described = lab / "flake/stand-in.json"
    described.write_text(json.dumps({"web1": {"guest": True, "authorizedKeys": ["ssh-ed25519 AAAA me"]}, "old": {}}))
    wrapper = lab / "sp ace"
    wrapper.mkdir()
    (wrapper / "flake.nix").write_text("{ }")
    (wrapper / "facts.json").write_text(json.dumps({"hostName": "renamed", "authorizedKeys": ["ssh-ed25519 AAAA me", "ssh-ed25519 BBBB"]}))

    def system(name):
        (wrapper / "machine.json").write_text(json.dumps({"name": name}))
        attribute = f"path:{lab}/sp%20ace#nixosConfigurations.{name}.config.system.build.toplevel"
        return Path(build(lab, "--override-input", "machines", f"{lab}/flake", attribute)[0])

    assert (system("web1") / "etc/hostname").read_text() == "renamed\n"
    assert (system("web1") / "etc/ssh/authorized_keys.d/root").read_text() == "ssh-ed25519 AAAA me\nssh-ed25519 BBBB\n"
    # Without the guest module they change nothing.
    assert [str(system("old"))] == build(lab, f"{lab}/flake#nixosConfigurations.old.config.system.build.toplevel")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["run", "nixpkgs#hello"], "this is a stand-in for nix"),
        (["build", "--no-link", "github:a/b#nixosConfigurations.x.config.system.build.toplevel"], "local directories only"),
        (["build", "--no-link", "FLAKE#nixosConfigurations.nope.config.system.build.toplevel"], "does not provide attribute"),
        (["build", "--no-link", "/#nixosConfigurations.x.config.system.build.toplevel"], "could not find a flake.nix"),
        (["config", "show", "nope"], "could not find setting"),
    ],
)
def test_what_nix_cannot_do_is_said(lab, arguments, message):
    arguments = [argument.replace("FLAKE", f"{lab}/flake") for argument in arguments]
    result = run(lab, "nix", *arguments)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ") and message in result.stderr


def test_nix_tells_its_settings_and_attributes(lab):
    assert run(lab, "nix", "--extra-experimental-features", "nix-command", "config", "show", "system").stdout == "x86_64-linux\n"
    name = run(lab, "nix", "eval", "--raw", f"{lab}/flake#nixosConfigurations.web1.config.networking.hostName")
    assert name.stdout == "web-one\n"


@pytest.mark.parametrize(
    "arguments, status, message",
    [
        ([], 1, "aborted: ssh-host must be set"),
        (["--bogus"], 1, "aborted: --flake or --store-paths must be set"),  # taken for the host
        (["h", "--flake", "x", "--phases", "disko,nope"], 1, "aborted: Unknown phase: nope"),
        (["h", "--flake"], 1, "$2: unbound variable"),
        (["h", "--flake", "/x"], 1, "Please specify the name of the NixOS configuration"),
        (["h", "--store-paths", "/", "/"], 1, "cat: //system: No such file or directory"),
        (["h", "--store-paths", "/nope", "/nope", "--build-on", "local"], 1, "aborted: /nope and /nope must be existing store-paths"),
        (["h", "--store-paths", "/", "/", "--disko-mode", "mount"], 1, "--disko-mode cannot be used if --store-paths is used"),
        (["h", "--store-paths", "/", "/", "--disko-mode", "disko"], 1, "--disko-mode cannot be used if --store-paths is used"),
        (["h", "--flake", "x#y", "--phases", "disko,,install"], 1, "aborted: Unknown phase: "),
        (
            ["h", "--flake", "x#y", "--build-on-remote", "--build-on", "local"],
            1,
            "Conflicting flags: --build-on local and --build-on-remote used.",
        ),
        (["h", "--generate-hardware-config"], 1, "Missing arguments for --generate-hardware-config <backend> <path>"),
        (["h", "--build-on", "moon"], 1, "Supported values for --build-on are auto, local and remote. Unknown mode : moon"),
    ],
)
def test_arguments_that_are_refused(lab, arguments, status, message):
    result, commands = install(lab, *arguments)
    assert (result.returncode, commands) == (status, [])
    assert message in result.stderr


@pytest.mark.parametrize(
    "deprecated, instead", [("--stop-after-disko", "kexec,disko"), ("--no-reboot", "kexec,disko,install")]
)
def test_what_is_deprecated_is_said_on_standard_output(lab, deprecated, instead):
    result, commands = install(lab, "h", deprecated)
    assert (result.returncode, commands) == (1, [])
    assert result.stdout == f"WARNING: {deprecated} is deprecated, use --phases {instead} instead\n"


def test_a_user_who_cannot_become_root_is_refused_in_every_phase(lab):
    result, _ = install(lab, "h", "--phases", "disko", "--flake", f"{lab}/flake#web1", ROOT="n", SUDO="n")
    assert result.returncode == 1
    assert "Could not find `sudo` or `doas`" in result.stderr


# The argument behind --force-kexec is lost, so that its value is one host too many.
@pytest.mark.parametrize("arguments", [["h", "--falke", "x"], ["h", "--force-kexec", "--flake", "/x#y"]])
def test_a_second_host_prints_the_usage(lab, arguments):
    result, commands = install(lab, *arguments)
    assert (result.returncode, commands) == (1, [])
    assert "Usage: nixos-anywhere" in result.stdout


def test_an_installation_in_its_order(lab):
    extra = lab / "extra/etc"
    extra.mkdir(parents=True)
    (extra / "file").write_text("x")
    (lab / "secret").write_text("disk secret")
    result, commands = install(
        lab, "root@h", "--phases", "kexec,disko,install", "-p", "2222", "-i", str(lab / "key"), "--flake", f"{lab}/flake#web1",
        "--extra-files", str(lab / "extra"), "--chown", "/etc/file", "1:2",
        "--disk-encryption-keys", "/tmp/disk.key", str(lab / "secret"), "--ssh-option", "StrictHostKeyChecking=yes",
    )
    assert result.returncode == 0, result.stderr
    assert steps(result) == [
        "Uploading install SSH keys", "Gathering machine facts", f"Uploading {lab}/secret to /tmp/disk.key",
        "Formatting hard drive with disko", "Uploading the system closure", "Copying extra files", "Installing NixOS", "Done!",
    ]
    assert commands[0].startswith("ssh-copy-id ") and "-p 2222" in commands[0]
    kinds = ["enableDebug=", "umask 077", "umask 022", f"{lab}/store/", "umask 022", "tar -C /mnt", "chmod 755 /mnt", "while read", "sh"]
    for command, kind in zip(commands[1:], kinds, strict=True):
        assert command.startswith(f"root@h: {kind}"), (command, kind)
    options = (lab / "options").read_text().splitlines()
    checking = [option for option in options if "StrictHostKeyChecking" in option]
    assert checking[0] == "-o StrictHostKeyChecking=no"  # ssh takes the first value
    assert f"-i {lab}" not in options
    assert "nixos-install --no-root-passwd --no-channel-copy --system" in (lab / "stdin").read_bytes().decode(errors="replace")


def test_a_user_becomes_root_when_the_facts_are_known(lab):
    flake = f"{lab}/flake#web1"
    result, commands = install(lab, "nixos@h", "--phases", "kexec,disko", "--flake", flake, SSH_USER="nixos", ROOT="n")
    assert result.returncode == 0, result.stderr
    assert commands[1].startswith("nixos@h: enableDebug=")
    assert commands[2].startswith("nixos@h: sudo mkdir -p /root/.ssh; sudo cp ~/.ssh/authorized_keys")
    assert all(command.startswith("root@h: ") for command in commands[3:])


def test_without_the_kexec_phase_the_user_is_root_at_once(lab):
    _, commands = install(lab, "nixos@h", "--phases", "disko", "--flake", f"{lab}/flake#web1", SSH_USER="nixos")
    assert commands[0].endswith(" root@h")


@pytest.mark.parametrize(
    "environment, status, last",
    [
        ({"DISKO": "7"}, 7, "Formatting hard drive with disko"),
        ({"CPIO": "n"}, 1, "Gathering machine facts"),
        ({"INSTALLER": "n"}, 1, "Switching system into kexec"),
    ],
)
def test_failures_keep_their_exit_code(lab, environment, status, last):
    result, _ = install(lab, "h", "--flake", f"{lab}/flake#web1", **environment)
    assert (result.returncode, steps(result)[-1]) == (status, last)


def test_the_key_is_offered_until_it_is_taken(lab):
    result, commands = install(lab, "h", "--phases", "disko", "--flake", f"{lab}/flake#web1", REFUSALS="1")
    assert result.returncode == 0
    assert [command.split()[0] for command in commands[:3]] == ["ssh-copy-id", "ssh-copy-id", "root@h:"]


def test_temporary_keys_are_removed(lab):
    (lab / "tmp").mkdir()
    install(lab, "h", "--phases", "disko", "--flake", f"{lab}/flake#web1", TMPDIR=f"{lab}/tmp")
    assert list((lab / "tmp").iterdir()) == []
