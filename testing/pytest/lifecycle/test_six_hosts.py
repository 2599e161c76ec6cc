"""The inventory of six different machines in examples/six-hosts, installed in one play."""

from test_examples import described

VAULT = {
    "vault_pve_token": "not used here",
    "vault_age_key": "AGE-SECRET-KEY-1QQEXAMPLE",
    "vault_installer_password_hash": "$6$exampleSaltHere$" + "9Jw1" * 21 + "./",
}


def here(value):
    """Storages of this test host in place of the example's."""
    if isinstance(value, dict):
        return {key: here(item) for key, item in value.items()}
    return {"local-lvm": "local", "64G": "2G", "32G": "1G"}.get(value, value) if isinstance(value, str) else value


def test_they_are_installed_and_stay_as_they_are(world):
    hosts = {}
    for name, variables in described("six-hosts").items():
        own = {key: here(value) for key, value in variables.items() if key.startswith("nixos_vm_")}
        # Of this test host: where the API is, the network, and what is installed.
        there = ("nixos_vm_api", "nixos_vm_node", "nixos_vm_gateway", "nixos_vm_nameservers", "nixos_vm_ip", "nixos_vm_installer_iso", "nixos_vm_flake")
        own = {key: value for key, value in own.items() if not key.startswith(there) or key == "nixos_vm_ipconfig"}
        machine = world.machine(**{**own, **VAULT, "nixos_vm_disk_size": 1})
        machine.name = name
        hosts[name] = machine
    assert len(hosts) == 6
    world.controller.play(list(hosts.values())).succeeded()
    config = {name: host.vm.config for name, host in hosts.items()}
    assert all(host.vm.record["phase"] == "done" and host.vm.disk.formats == 1 for host in hosts.values())

    assert config["git_server"]["name"] == "git-server" and hosts["git_server"].vm.vmid == 211
    assert "02:00:00:00:02:11" in config["git_server"]["net0"] and "firewall=1" in config["git_server"]["net0"]
    assert hosts["git_server"].vm.tags == ["backup", "git"]
    assert "mbps_rd=200" in config["database"]["scsi0"] and "iops_wr=1000" in config["database"]["scsi1"]
    assert config["media"]["hostpci0"] == "mapping=gpu,pcie=1" and config["media"]["machine"] == "q35"
    assert sorted(path.name for path in hosts["media"].state().rglob("host_key_*")) == ["host_key_ed25519.pub", "host_key_rsa.pub"]
    assert "tag=42" in config["router"]["net1"] and config["router"]["startup"] == "order=1"
    for name, values in config.items():
        ovmf = name != "router"
        assert (values.get("bios") == "ovmf") == ovmf and ("efidisk0" in values) == ovmf, name
        assert "media=cdrom" not in " ".join(values.values()), name

    world.controller.play(list(hosts.values())).succeeded()
    assert {name: host.vm.config for name, host in hosts.items()} == config
    again = world.controller.play(list(hosts.values())).succeeded()
    assert again.changed == 0
