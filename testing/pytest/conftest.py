"""What the tests share: a test host of Proxmox VE, and the real Ansible to call the modules with."""

import json
import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import jsonschema
import pytest
from project import PROJECT, TESTHOST
ANSIBLES_OWN = {"diff", "invocation", "warnings", "deprecations", "ansible_facts", "exception"}


@dataclass
class Result:
    """What a module answered under the real `ansible`."""

    outcome: str  # SUCCESS, CHANGED, FAILED! ...
    data: dict
    output: str

    @property
    def failed(self):
        return self.outcome.startswith(("FAILED", "UNREACHABLE"))


@dataclass
class Lab:
    """A running test host, its data and how to reach it."""

    path: Path
    endpoint: dict = field(init=False)

    def __post_init__(self):
        self.endpoint = json.loads((self.path / "pve/endpoint.json").read_text())

    @property
    def connection(self):
        return {
            key: self.endpoint[key]
            for key in ("api_host", "api_port", "api_user", "api_token_id", "api_token_secret", "tls_fingerprint")
        }

    def module(self, name, /, _flags=(), _environment=None, **options):
        """Run a module once, with the connection; an option of `...` is left out."""
        arguments = {**self.connection, **options} if name != "nixos_anywhere_install" else options
        arguments = {key: value for key, value in arguments.items() if value is not ...}
        return ansible_module(name, arguments, _flags, _environment)

    def holds(self):
        """Everything that the host keeps: VMs and volumes, with their sizes."""
        files = [*(self.path / "pve/qemu-server").glob("*"), *(self.path / "pve/storage").rglob("*")]
        return sorted((str(file), file.stat().st_size) for file in files if file.is_file())

    def writes(self):
        """The requests so far that could have changed anything."""
        log = self.path / "pve/requests.jsonl"
        lines = log.read_text().splitlines() if log.exists() else []
        requests = [json.loads(line) for line in lines]
        return [r for r in requests if r["method"] != "GET" and not r["path"].endswith("/access/ticket")]


def environment(**more):
    env = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "PROXMOX_"))}
    return env | {
        # scripts/test-compat.sh has other versions of Ansible.
        "PATH": f"{os.environ.get('ANSIBLE_VENV', PROJECT / '.venv')}/bin:{env['PATH']}",
        "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        **more,
    }


def ansible_module(name, arguments, flags=(), extra_environment=None):
    command = ["ansible", "localhost", "-i", "localhost,", "-c", "local", "-m", name, "-a", json.dumps(arguments)]
    done = subprocess.run(
        [*command, *flags],
        cwd=PROJECT,
        env=environment(**(extra_environment or {})),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    output = done.stdout + done.stderr
    answer = re.search(r"^localhost \| (\S+?)(?: \(rc=\d+\))? => (\{.*^\})", output, re.M | re.S)
    assert answer, f"ansible gave no result:\n{output}"
    result = Result(answer[1], json.loads(answer[2]), output)
    # Ansible shows `failed` in that word instead.
    assert_as_documented(name, {**result.data, "failed": result.failed})
    return result


def assert_as_documented(name, answer):
    """Every key is one of the schema that users have, or Ansible's own, and what is said to be there always is."""
    schema = json.loads((PROJECT / f"docs/reference/{name}.results.json").read_text())
    jsonschema.validate(answer, schema)
    assert set(answer) - ANSIBLES_OWN <= set(schema["properties"]), sorted(answer)


def start_lab(path, image):
    subprocess.run([TESTHOST, "lab", "up", path, image], check=True, timeout=900, stdout=subprocess.DEVNULL)
    return Lab(path)


def end_lab(lab):
    subprocess.run([TESTHOST, "lab", "down", lab.path], check=True, timeout=120)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A test host with simulated guests: for what needs no real machine."""
    lab = start_lab(tmp_path_factory.mktemp("lab"), "none")
    yield lab
    end_lab(lab)
