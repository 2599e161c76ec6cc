"""Bad input: one clear error each, and nothing is changed."""

import re

import pytest

ISO = {"node": "pve", "storage": "local", "src": "{lab}/installer.iso"}
VM = {"node": "pve", "name": "web1", "memory": 512, "scsi": {"scsi0": "local:1"}}
SEED = {"node": "pve", "vmid": 100, "kind": "nocloud", "drive": "ide0", "storage": "local"}
INSTALL = {"host": "127.0.0.1", "port": 1, "user": "root", "state": "probed", "timeout": 2, "host_keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPz6nYYnhYSNxX9pOeX5vY5mBxrYQf0Cm6bcHkMcvmq8"]}

CASES = {
    # wrong type
    "iso: timeout is not a number": ("proxmox_iso", ISO | {"timeout": "soon"}, r"'timeout'.*unable to convert to int"),
    "vm: memory is not a number": ("proxmox_nixos_vm", VM | {"memory": "lots"}, r"'memory'.*unable to convert to int"),
    "vm: onboot is not a bool": ("proxmox_nixos_vm", VM | {"onboot": "perhaps"}, r"'onboot'.*unable to convert to bool"),
    "seed: vmid is not a number": ("cloudinit_drive", SEED | {"vmid": "web1"}, r"'vmid'.*unable to convert to int"),
    "install: port is not a number": ("nixos_anywhere_install", INSTALL | {"port": "ssh"}, r"'port'.*unable to convert to int"),
    # not one of the choices
    "iso: state": ("proxmox_iso", ISO | {"state": "there"}, r"value of state must be one of: .*got: there"),
    "vm: state": ("proxmox_nixos_vm", VM | {"state": "up"}, r"value of state must be one of: .*got: up"),
    "seed: kind": ("cloudinit_drive", SEED | {"kind": "floppy"}, r"value of kind must be one of: .*got: floppy"),
    # unknown option
    "iso: nam": ("proxmox_iso", ISO | {"nam": "x"}, r"Unsupported parameters for \(.*proxmox_iso\) module: nam\. Supported parameters include:"),
    "vm: memroy": ("proxmox_nixos_vm", VM | {"memroy": 1}, r"Unsupported parameters for \(.*proxmox_nixos_vm\) module: memroy\."),
    "seed: drvie": ("cloudinit_drive", SEED | {"drvie": "ide0"}, r"Unsupported parameters for \(.*cloudinit_drive\) module: drvie\."),
    "install: flak": ("nixos_anywhere_install", INSTALL | {"flak": "x"}, r"Unsupported parameters for \(.*nixos_anywhere_install\) module: flak\."),
    # missing
    "iso: no storage": ("proxmox_iso", {"node": "pve", "src": "{lab}/installer.iso"}, r"missing required arguments: storage"),
    "iso: no source": ("proxmox_iso", {"node": "pve", "storage": "local"}, r"src.*url|url.*src"),
    "install: no host": ("nixos_anywhere_install", {"state": "probed"}, r"are missing: host"),
    "iso: two sources": ("proxmox_iso", ISO | {"url": "http://127.0.0.1/x.iso"}, r"mutually exclusive.*(src|url)"),
    # credentials
    "wrong token": ("proxmox_iso", ISO | {"api_token_secret": "00000000-0000-0000-0000-000000000000"}, r"(?s)401.*api_token"),
    "no credentials": ("proxmox_nixos_vm", VM | {"api_token_id": ..., "api_token_secret": ...}, r"api_password.*api_token|api_token.*api_password"),
    "missing right": ("proxmox_nixos_vm", VM | {"api_user": "{endpoint[empty][api_user]}", "api_token_id": "{endpoint[empty][api_token_id]}", "api_token_secret": "{endpoint[empty][api_token_secret]}"}, r"(?s)VM\.|privilege|permission"),
    # reaching it
    "unreachable host": ("proxmox_iso", ISO | {"api_port": 1, "timeout": 3}, r"(?i)127\.0\.0\.1.*(refused|connect)"),
    "untrusted certificate": ("proxmox_nixos_vm", VM | {"tls_fingerprint": ...}, r"(?s)certificate.*tls_fingerprint"),
    "another certificate": ("proxmox_nixos_vm", VM | {"tls_fingerprint": ":".join(["AB"] * 32)}, r"(?i)fingerprint"),
    "unreachable guest": ("nixos_anywhere_install", INSTALL, r"(?i)127\.0\.0\.1.*(refused|reach)"),
    # what is named does not exist
    "missing image": ("proxmox_iso", ISO | {"src": "/nonexistent/x.iso"}, r"/nonexistent/x\.iso"),
    "missing storage for an image": ("proxmox_iso", ISO | {"storage": "nope"}, r"storage.*nope"),
    "storage without images content": ("proxmox_iso", ISO | {"storage": "noiso"}, r"noiso.*ISO"),
    "disabled storage": ("proxmox_iso", ISO | {"storage": "off"}, r"off.*disabled"),
    "missing storage for a disk": ("proxmox_nixos_vm", VM | {"scsi": {"scsi0": "nope:1"}}, r"storage.*nope"),
    "missing ISO of a VM": ("proxmox_nixos_vm", VM | {"ide": {"ide2": "local:iso/none.iso,media=cdrom"}}, r"local:iso/none\.iso"),
    "missing node": ("proxmox_iso", ISO | {"node": "pve9"}, r"node.*pve9"),
    "missing node of a VM": ("proxmox_nixos_vm", VM | {"node": "pve9"}, r"node.*pve9"),
    "seed for a missing VM": ("cloudinit_drive", SEED | {"vmid": 4711, "hostname": "x"}, r"4711"),
    "wrong checksum": ("proxmox_iso", ISO | {"checksum": "sha256:" + "0" * 64}, r"(?i)checksum"),
    "checksum of an unknown kind": ("proxmox_iso", ISO | {"checksum": "crc32:12"}, r"(?i)checksum.*sha256"),
    "bad name of a VM": ("proxmox_nixos_vm", VM | {"name": "web_1"}, r"name"),
    "bad boot order": ("proxmox_nixos_vm", VM | {"boot": "order=scsi9"}, r"scsi9"),
}


def fill(value, lab):
    if isinstance(value, str):
        return value.format(lab=lab.path, endpoint=lab.endpoint) if "{" in value else value
    return value


@pytest.mark.parametrize("case", CASES)
def test_bad_input(lab, case):
    module, options, expected = CASES[case]
    before, writes = lab.holds(), lab.writes()
    result = lab.module(module, **{key: fill(value, lab) for key, value in options.items()})
    assert result.failed, result.output
    message = result.data["msg"]
    assert re.search(expected, message), message
    assert "Traceback" not in message and "panicked" not in message
    assert lab.endpoint["api_token_secret"] not in result.output
    assert lab.holds() == before
    # Only the node can tell that an image's checksum is wrong: it is sent, and not kept.
    assert lab.writes() == writes or case == "wrong checksum"
