"""playbooks/keys.yml: host keys before the machines, for sops and for ssh, and the machines that get them."""

import os
import stat
import subprocess

import pytest
import yaml
from simulation.world import PROJECT

from conftest import login_by_key


def keys(world, machines, *flags, **variables):
    return world.controller.play(machines, *flags, playbook="playbooks/keys.yml", **variables)


def without_vm_variables(machine):
    """Nothing that is needed only for an installation."""
    return machine.with_variables(nixos_vm_node=None, nixos_vm_flake=None)


def test_keys_are_made_once_and_the_machine_gets_them(world, tmp_path):
    web, second = world.machine(), world.machine()
    place = {"nixos_vm_host_keys_dir": str(tmp_path / "keys"), "nixos_vm_sops_recipients": ["age1me"]}
    early = [without_vm_variables(web), without_vm_variables(second)]
    checked = keys(world, early, "--check", "--diff", **place).succeeded()
    assert checked.changed == 2 and "a new key" in checked.output
    assert not (tmp_path / "keys").exists()
    requests = len(world.requests())
    made = keys(world, early, "-vvvv", **place).succeeded()
    assert made.changed == 2 and "PRIVATE KEY" not in made.output
    assert len(world.requests()) == requests
    private = tmp_path / "keys" / web.name / "ssh_host_ed25519_key"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600 and stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert private.read_text() not in made.output
    text = {path: path.read_bytes() for path in (tmp_path / "keys").rglob("*") if path.is_file()}
    assert keys(world, early, **place).succeeded().changed == 0
    assert {path: path.read_bytes() for path in (tmp_path / "keys").rglob("*") if path.is_file()} == text
    rules = yaml.safe_load((tmp_path / "keys/sops.yaml").read_text())["creation_rules"]
    recipients = {rule["path_regex"]: rule["key_groups"][0]["age"] for rule in rules}
    assert len(recipients) == 2 and all(first == "age1me" and own.startswith("age1") for first, own in recipients.values())
    assert all(own in made.output for _, own in recipients.values())
    web.play(**place).succeeded()
    assert web.vm.disk.host_keys == [private.read_text()]
    # ssh knew it before it was there.
    assert login_by_key(web, tmp_path / "keys/known_hosts").returncode == 0
    assert keys(world, [web], **place).succeeded().changed == 0


def test_private_keys_in_a_vault(world, tmp_path):
    web = world.machine()
    password = tmp_path / "password"
    password.write_text("correct horse\n")
    place = tmp_path / "keys"
    file = f"{place}/{{{{ inventory_hostname }}}}/ssh_host_ed25519_key"
    variables = {
        "nixos_vm_host_keys_dir": str(place),
        "nixos_vm_host_keys_vault_password_file": str(password),
        "nixos_vm_ssh_host_key": {"private": f"{{{{ lookup('ansible.builtin.file', '{file}', errors='ignore') }}}}"},
    }
    vault = ["--vault-password-file", str(password)]
    assert keys(world, [web], *vault, **variables).succeeded().changed == 1
    private = place / web.name / "ssh_host_ed25519_key"
    assert private.read_text().startswith("$ANSIBLE_VAULT;")
    assert sorted(path.name for path in private.parent.iterdir()) == ["sops_rule.yaml", "ssh_host_ed25519_key", "ssh_host_ed25519_key.pub"]
    assert keys(world, [web], *vault, **variables).succeeded().changed == 0
    # Whoever forgets the lookup is told.
    web.play(**{**variables, "nixos_vm_ssh_host_key": None}).refused("nixos_vm_host_keys_dir", "is encrypted by ansible-vault", "lookup(")
    assert not web.vms
    web.play(*vault, **variables).succeeded()
    public = (private.parent / f"{private.name}.pub").read_text().split()[:2]
    derived = subprocess.run(["ssh-keygen", "-y", "-f", "/dev/stdin"], input=web.vm.disk.host_keys[0], capture_output=True, text=True, check=True)
    assert derived.stdout.split()[:2] == public
    assert login_by_key(web, place / "known_hosts").returncode == 0


def test_what_is_missing_is_said(world, tmp_path):
    web = world.machine()
    keys(world, [web]).refused("nixos_vm_host_keys_dir: is required")
    keys(world, [web], nixos_vm_host_keys_dir="keys", nixos_vm_host_key_dir="x").refused(
        "nixos_vm_host_keys_dir: must be an absolute path", "nixos_vm_host_key_dir"
    )
    place = {"nixos_vm_host_keys_dir": str(tmp_path / "keys")}
    web.play(**place).refused("nixos_vm_host_keys_dir", "does not exist; make it with playbooks/keys.yml")
    wrong = {**place, "nixos_vm_host_keys_vault_password_file": str(tmp_path / "none")}
    keys(world, [web], **wrong).refused("ansible-vault: cannot encrypt the host key", "nixos_vm_host_keys_vault_password_file")
    assert [path for path in (tmp_path / "keys").rglob("*") if path.is_file()] == []
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    warned = keys(world, [web], **place).succeeded()
    assert "not encrypted" in " ".join(warned.output.split())


def test_an_installed_machine_keeps_its_key(world, tmp_path):
    web = world.machine()
    web.play().succeeded()
    old = web.vm.disk.host_keys
    place = {"nixos_vm_host_keys_dir": str(tmp_path / "keys")}
    warned = keys(world, [web], **place).succeeded()
    assert "installed with another host key" in " ".join(warned.output.split())
    assert not (tmp_path / "keys/known_hosts").exists()
    assert web.play(**place).succeeded().changed == 0
    assert web.vm.disk.host_keys == old


@pytest.mark.parametrize("moment", ["key", "key.pub"])
def test_a_run_that_is_killed_leaves_no_half_pair(world, tmp_path, moment):
    """ssh-keygen is replaced by one that kills the module when it has written its files."""
    web = world.machine()
    place = {"nixos_vm_host_keys_dir": str(tmp_path / "keys")}
    tools = tmp_path / "tools"
    tools.mkdir()
    fake = tools / "ssh-keygen"
    fake.write_text(f'#!/bin/sh\n/usr/bin/ssh-keygen "$@"\nfor last; do :; done\n[ {moment} = key ] && rm -f "$last.pub"\nkill -9 $PPID\n')
    fake.chmod(0o755)
    path = f"{tools}:{os.environ['PATH']}"
    killed = world.controller.play([web], playbook="playbooks/keys.yml", environment={"PATH": path}, **place)
    assert killed.code != 0
    assert keys(world, [web], **place).succeeded().changed == 1
    names = sorted(path.name for path in (tmp_path / "keys" / web.name).iterdir())
    assert names == ["sops_rule.yaml", "ssh_host_ed25519_key", "ssh_host_ed25519_key.pub"], names


def test_the_playbook_is_in_the_collection():
    text = (PROJECT / "crates/xtask/src/dist.rs").read_text()
    for playbook in (PROJECT / "playbooks").glob("*.yml"):
        assert playbook.name == "provision.yml" or f'"playbooks/{playbook.name}"' in text, playbook.name


def test_private_keys_and_names_that_break_are_refused(world, tmp_path):
    web = world.machine()
    place = {"nixos_vm_host_keys_dir": str(tmp_path / "keys")}
    private = "AGE-SECRET-KEY-1QQQQQQQQQQQQQQ"
    refused = keys(world, [web], **place, nixos_vm_sops_recipients=["age1me", private, "age1a\nb: c"])
    refused.refused("nixos_vm_sops_recipients: item 2 holds a private key", "item 3 must begin with age1")
    assert not (tmp_path / "keys").exists()
    odd = world.machine("a/b")
    keys(world, [odd], **place).refused("cannot be the name of a directory")


def test_the_named_password_encrypts_whatever_ansible_has_besides(world, tmp_path):
    web = world.machine()
    password, other = tmp_path / "password", tmp_path / "other"
    password.write_text("right\n")
    other.write_text("other\n")
    variables = {"nixos_vm_host_keys_dir": str(tmp_path / "keys"), "nixos_vm_host_keys_vault_password_file": str(password)}
    environment = {"ANSIBLE_VAULT_IDENTITY_LIST": f"prod@{other}", "ANSIBLE_VAULT_ENCRYPT_IDENTITY": "prod"}
    world.controller.play([web], playbook="playbooks/keys.yml", environment=environment, **variables).succeeded()
    private = tmp_path / "keys" / web.name / "ssh_host_ed25519_key"
    vault = ["ansible-vault", "view", "--vault-password-file", str(password), str(private)]
    assert "PRIVATE KEY" in subprocess.run(vault, cwd=tmp_path, capture_output=True, text=True, check=True).stdout


def test_secrets_are_for_the_key_that_an_installed_machine_has(world, tmp_path):
    web = world.machine()
    web.play().succeeded()
    keys(world, [web], nixos_vm_host_keys_dir=str(tmp_path / "keys")).succeeded()
    (rule,) = yaml.safe_load((tmp_path / "keys/sops.yaml").read_text())["creation_rules"]
    assert len(rule["key_groups"][0]["age"]) == 2
