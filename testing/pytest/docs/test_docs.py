"""The guides: their commands run, inventories and plays parse, variables, error texts and links exist."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import PROJECT, environment
from project import TESTHOST

GUIDES = sorted(
    path for path in (PROJECT / "docs").glob("*.md") if path.name not in {"benchmarks.md", "installer.md", "privileges.md", "quirks.md"}
)
MARKS = {"sh checked", "sh demo", "sh real-pve", "yaml inventory", "yaml vars", "yaml play", "yaml", "mermaid", ""}


def blocks():
    for guide in GUIDES:
        for number, match in enumerate(re.finditer(r"^```([^\n]*)\n(.*?)^```$", guide.read_text(), re.M | re.S), 1):
            yield pytest.param(match[1], match[2], id=f"{guide.stem}-{number}-{match[1].replace(' ', '-')}")


def run(*command, **variables):
    env = environment(**variables)
    env["PATH"] = f"{Path(TESTHOST).parent}:{env['PATH']}"
    done = subprocess.run(
        command, cwd=PROJECT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def known_variables():
    specs = yaml.safe_load((PROJECT / "roles/nixos_vm/meta/argument_specs.yml").read_text())["argument_specs"]
    return {name for entry in specs.values() for name in entry["options"]}


def unknown_variables(text):
    return set(re.findall(r"\bnixos_vm_[a-z_]+\d*", text)) - known_variables() - {"nixos_vm_progress", "nixos_vm_lifecycle", "nixos_vm_inventory", "nixos_vm_report"}


@pytest.mark.parametrize(("mark", "text"), list(blocks()))
def test_what_a_block_says_holds(mark, text, tmp_path):
    assert mark in MARKS, f"mark the block with one of {MARKS}"
    assert not unknown_variables(text)
    file = tmp_path / "file.yml"
    file.write_text(text)
    if mark == "sh checked":
        run("bash", "-euo", "pipefail", "-c", text, TMPDIR=str(tmp_path))
    elif mark.startswith("sh"):
        run("bash", "-n", "-c", text)
        for playbook in re.findall(r"ansible-playbook (\S+)", text):
            assert (PROJECT / playbook).exists()
        for target in re.findall(r"\bmake (\S+)", text):
            assert re.search(rf"^{target}:", (PROJECT / "Makefile").read_text(), re.M)
    elif mark == "yaml inventory":
        assert "nixos_vms" in run("ansible-inventory", "-i", str(file), "--list", "--yaml")
        assert "[WARNING]" not in run("ansible-inventory", "-i", str(file), "--graph", "nixos_vms")
    elif mark == "yaml vars":
        assert set(yaml.safe_load(text)) <= known_variables()
    elif mark == "yaml play":
        run("ansible-playbook", "--syntax-check", "-i", "nixos_vms,", str(file))


@pytest.mark.parametrize("guide", [*GUIDES, PROJECT / "README.md"], ids=lambda path: path.name)
def test_variables_and_links_exist(guide):
    text = guide.read_text()
    assert not unknown_variables(text)
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        assert target.startswith("https://") or (guide.parent / target).exists(), target


def test_error_texts_are_those_of_the_code():
    files = [*PROJECT.glob("crates/*/src/**/*.rs"), *PROJECT.glob("roles/nixos_vm/tasks/*.yml")]
    code = "\n".join(path.read_text() for path in files)
    # String literals that are continued on the next line, and folded YAML.
    code = re.sub(r"\\\n\s*", "", code) + re.sub(r"\s+", " ", code)
    headings = re.findall(r"^### `(.*)`$", (PROJECT / "docs/troubleshooting.md").read_text(), re.M)
    assert len(headings) > 15
    missing = [part for heading in headings for part in heading.split("…") if part.strip(" .,:;()") and part.strip() not in code]
    assert not missing, missing


def test_a_fresh_clone_says_what_to_fill_in():
    done = subprocess.run(
        ["ansible-playbook", "provision.yml", "-i", "inventory"],
        cwd=PROJECT, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False,
    )
    assert done.returncode != 0, done.stdout
    for text in ("missing required variables: nixos_vm_api_host", "nixos_vm_api_token_id: is required"):
        assert text in done.stdout, done.stdout
    assert "[WARNING]" not in done.stdout, done.stdout
    # What is missing is in the file that is to be edited, ready to be uncommented; and what is there is known.
    group = (PROJECT / "inventory/group_vars/nixos_vms/main.yml").read_text()
    for name in ("api_host", "api_user", "api_token_id", "api_token_secret", "node"):
        assert re.search(rf"^# nixos_vm_{name}: ", group, re.M), name
    assert not unknown_variables(group)


def test_the_inventory_and_the_example_describe_one_machine(tmp_path):
    """The role writes what the inventory says of a machine to a file that the example flake reads; the repository has these files."""
    folder = PROJECT / "examples/nixos-config"
    flake = (folder / "flake.nix").read_text()
    hosts = yaml.safe_load((PROJECT / "inventory/hosts.yml").read_text())["nixos_vms"]["hosts"]
    group = yaml.safe_load((PROJECT / "inventory/group_vars/nixos_vms/main.yml").read_text())
    assert group["nixos_vm_system_facts"] == "file"
    assert group["nixos_vm_system_facts_file"].endswith("/examples/nixos-config/facts/{{ inventory_hostname }}.json")
    demo = yaml.safe_load((PROJECT / "testing/demo/inventory/hosts.yml").read_text())["nixos_vms"]["hosts"]
    of_demo = yaml.safe_load((PROJECT / "testing/demo/inventory/group_vars/nixos_vms.yml").read_text())
    for name, host, shared in [*((name, host, group) for name, host in hosts.items()), ("demo1", demo["demo1"], of_demo)]:
        assert f'"{name}"' in flake
        facts = json.loads((folder / f"facts/{name}.json").read_text())
        assert f"{facts['address']}/{facts['prefixLength']}" == host["nixos_vm_ip"]
        assert (facts["gateway"], facts["nameservers"]) == (shared["nixos_vm_gateway"], shared["nixos_vm_nameservers"])
        assert facts["hostName"] == name
    for name, host in hosts.items():
        assert host["ansible_host"] == host["nixos_vm_ip"].split("/")[0]
    assert group["ansible_user"] == "root"
    # The key that logs in is a fact, too.
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/id_ed25519.pub").write_text("ssh-ed25519 AAAA me\n")
    done = subprocess.run(
        ["ansible", "-i", "inventory", "web1", "-m", "ansible.builtin.debug", "-a", "var=nixos_vm_authorized_keys"],
        cwd=PROJECT, env=environment() | {"HOME": str(tmp_path)}, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
        check=False,
    )
    assert '"nixos_vm_authorized_keys": [\n        "ssh-ed25519 AAAA me"\n    ]' in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("index", ["README.md", "SUMMARY.md"])
def test_every_guide_is_in_the_index(index):
    """Of docs/, and of the site."""
    text = (PROJECT / "docs" / index).read_text()
    for path in Path(PROJECT / "docs").rglob("*.md"):
        name = os.path.relpath(path, PROJECT / "docs")
        assert name in {"README.md", "SUMMARY.md"} or f"({name})" in text, name
