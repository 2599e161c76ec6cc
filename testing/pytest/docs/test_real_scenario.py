"""molecule/proxmox leaves other VMs alone. On the test host, since no real server is at hand."""

import subprocess

import pytest
from conftest import PROJECT, environment


@pytest.fixture
def scenario(lab, tmp_path):
    key = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    names = {"PROXMOX_HOST": "api_host", "PROXMOX_PORT": "api_port", "PROXMOX_USER": "api_user", "PROXMOX_TOKEN_ID": "api_token_id"}
    names |= {"PROXMOX_TOKEN_SECRET": "api_token_secret", "PROXMOX_TLS_FINGERPRINT": "tls_fingerprint"}
    variables = {
        **environment(),
        **{name: str(lab.endpoint[key]) for name, key in names.items()},
        "MOLECULE_PVE_NODE": "pve",
        # Of this computer: some networks answer for every address that is not there.
        "MOLECULE_PVE_ADDRESSES": "127.77.0.61/24,127.77.0.62/24",
        "MOLECULE_PVE_GATEWAY": "127.77.0.1",
        "MOLECULE_PVE_INSTALLER": str(lab.path / "installer.iso"),
        "MOLECULE_PVE_FLAKE": str(PROJECT / "testing/demo/flake"),
        "MOLECULE_PVE_STORAGE": "local",
        "MOLECULE_PVE_KEY": str(key),
        "MOLECULE_EPHEMERAL_DIRECTORY": str(tmp_path),
    }

    def scenario(playbook, *flags):
        done = subprocess.run(
            # The stand-ins: the role looks for nix and nixos-anywhere before it makes anything.
            ["ansible-playbook", playbook, "-i", "molecule/proxmox/inventory", "-e", f"nixos_vm_tools_path={PROJECT}/testing/stand-in", *flags],
            cwd=PROJECT,
            env=variables,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    return scenario


def test_it_makes_and_removes_its_own_vms_only(lab, scenario):
    before = lab.holds()
    assert scenario("molecule/proxmox/create.yml")[0] == 0
    code, output = scenario("molecule/proxmox/converge.yml", "--tags", "upload,provision")
    assert code == 0, output
    assert {"998000.conf", "998001.conf"} == {path.name for path in (lab.path / "pve/qemu-server").glob("*.conf")}
    code, output = scenario("molecule/proxmox/create.yml")
    assert code == 0, output
    code, output = scenario("molecule/proxmox/destroy.yml")
    assert code == 0, output
    assert lab.holds() == before


def test_it_leaves_other_vms_alone(lab, scenario):
    for vmid, options in {998000: {"name": "molecule-web1"}, 998001: {"name": "other", "tags": ["nixos-proxmox-molecule"]}}.items():
        made = lab.module("proxmox_nixos_vm", node="pve", vmid=vmid, scsi={"scsi0": "local:1"}, **options)
        assert not made.failed, made.output
    before = lab.holds()
    code, output = scenario("molecule/proxmox/create.yml")
    assert code != 0 and "VMID 998000 is another VM's" in output, output
    code, output = scenario("molecule/proxmox/destroy.yml")
    assert code == 0, output
    assert lab.holds() == before
