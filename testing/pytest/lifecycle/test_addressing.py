"""Addresses of both families, by the role: what installers are told of their network, and machines that are reached by IPv6 alone.

What is reached by IPv6 runs in a network namespace of its own, in which every address of fd77::/16 is one of the computer's own.
"""

import json
import re
import shutil

import pytest
import yaml
from conftest import login_by_key
from networks import run_in_own_network
from simulation.guests import seed_of
from simulation.world import PROJECT


OWN_NETWORK = 'ip link set lo up && ip -6 route add local fd77::/16 dev lo && echo 1 >/proc/sys/net/ipv6/ip_nonlocal_bind'

UP_TO_PROVISION = ("--tags", "image,upload,provision")


def test_in_a_network_of_its_own():
    run_in_own_network(__file__, "by_ipv6_*", OWN_NETWORK, limit=1200)


# --- What the installer is told ---------------------------------------------------------------------


def network_of(web):
    return yaml.safe_load(seed_of(web.vm, web.vm.config)["network-config"])


def of_version_2(web):
    """Addresses and routes of the first NIC."""
    (device, *_) = network_of(web)["ethernets"].values()
    return device.get("addresses", []), [(route["to"], route["via"]) for route in device.get("routes", [])]


def of_version_1(web):
    """The subnets of the first NIC."""
    return network_of(web)["config"][0]["subnets"]


def test_fixed_addresses_of_both_families(world):
    for number, (ip, gateway, addresses, routes) in enumerate([
        ("2001:DB8:0::11/64", "FE80::1", ["2001:db8::11/64"], [("::/0", "fe80::1")]),
        (
            ["10.0.1.11/24", "2001:db8:1::11/64"], ["10.0.1.1", "2001:db8:1::1"],
            ["10.0.1.11/24", "2001:db8:1::11/64"], [("0.0.0.0/0", "10.0.1.1"), ("::/0", "2001:db8:1::1")],
        ),
        # As Proxmox VE writes it. The group has no gateway then.
        (
            "ip=10.0.2.11/24,gw=10.0.2.1,ip6=2001:db8:2::11/64,gw6=fe80::1", ...,
            ["10.0.2.11/24", "2001:db8:2::11/64"], [("0.0.0.0/0", "10.0.2.1"), ("::/0", "fe80::1")],
        ),
        ("10.0.3.10/31", "10.0.3.11", ["10.0.3.10/31"], [("0.0.0.0/0", "10.0.3.11")]),
    ]):
        web = world.machine(ansible_host=..., nixos_vm_ip=ip)
        web.play(*UP_TO_PROVISION, nixos_vm_gateway=gateway).succeeded()
        assert of_version_2(web) == (addresses, routes), number


def test_the_spelling_of_an_address_changes_nothing(world):
    web = world.machine(ansible_host=..., nixos_vm_ip="2001:DB8:0::4:11/64", nixos_vm_gateway="FE80::0:1")
    web.play(*UP_TO_PROVISION).succeeded()
    seed = web.vm.config["ide0"]
    web.with_variables(nixos_vm_ip="2001:db8::4:11/64", nixos_vm_gateway="fe80::1").play(*UP_TO_PROVISION).succeeded()
    assert web.vm.config["ide0"] == seed


def test_gateways_outside_of_the_subnet_are_on_the_link(world):
    web = world.machine(ansible_host=..., nixos_vm_ip=["10.0.0.11/32", "2001:db8::11/128"])
    web.play(*UP_TO_PROVISION, nixos_vm_gateway=["192.0.2.1", "2001:db8:1::1"]).succeeded()
    v4, v6 = of_version_1(web)
    assert (v4["address"], v4["gateway"], v4["routes"]) == ("10.0.0.11/32", "192.0.2.1", [{"destination": "192.0.2.1/32", "gateway": "0.0.0.0"}])
    assert (v6["address"], v6["gateway"], v6["routes"]) == (
        "2001:db8::11/128", "2001:db8:1::1", [{"destination": "2001:db8:1::1/128", "gateway": "::"}],
    )


def test_addresses_that_the_network_gives(world):
    for ip, expected in [
        ("slaac", [{"type": "ipv6_slaac"}]),
        (["dhcp", "auto"], [{"type": "dhcp4"}, {"type": "ipv6_slaac"}]),
    ]:
        web = world.machine(ansible_host=..., nixos_vm_ip=ip)
        web.play(*UP_TO_PROVISION, nixos_vm_nameservers=...).succeeded()
        assert of_version_1(web) == expected
    web = world.machine(ansible_host=..., nixos_vm_ip=["dhcp", "dhcp6"])
    web.play(*UP_TO_PROVISION).succeeded()
    (device,) = network_of(web)["ethernets"].values()
    assert (device["dhcp4"], device["dhcp6"], device.get("addresses")) == (True, True, None)


def test_several_nics_have_one_default_route(world, facts_of_nodes):
    facts_of_nodes(bridges=["vmbr0", "vmbr1"], vnets={"blue": "zone1"})
    nics = {"net0": "virtio,bridge=blue", "net1": {"bridge": "vmbr1", "tag": 20}, "net2": {"bridge": "vmbr1", "trunks": [30, 40]}}
    others = {"ipconfig1": {"ip": "198.51.100.11/24", "ip6": "2001:db8:1::11/64"}, "ipconfig2": "ip6=2001:db8:2::11/64"}
    web = world.machine(nixos_vm_net=nics, nixos_vm_ipconfig=others)
    web.play(*UP_TO_PROVISION).succeeded()
    assert [re.sub(r"virtio=[0-9A-F:]+", "virtio", web.vm.config[nic]) for nic in nics] == [
        "virtio,bridge=blue", "virtio,bridge=vmbr1,tag=20", "virtio,bridge=vmbr1,trunks=30;40",
    ]
    devices = network_of(web)["ethernets"].values()
    assert [device["addresses"] for device in devices] == [
        [f"{web.inside}/24"], ["198.51.100.11/24", "2001:db8:1::11/64"], ["2001:db8:2::11/64"],
    ]
    assert [len(device.get("routes", [])) for device in devices] == [1, 0, 0]


@pytest.fixture
def facts_of_nodes(world):
    file = world.pve / "nodes.json"

    def say(**facts):
        file.write_text(json.dumps({world.node: facts}))

    yield say
    file.unlink(missing_ok=True)


def test_what_no_network_works_with_is_refused_before_anything_is_made(world):
    two = {"net0": "virtio,bridge=vmbr0", "net1": "virtio,bridge=vmbr0"}
    mistakes = [
        ({"nixos_vm_ip": "10.0.22.11"}, "nixos_vm_ip: must be an address with the length of its prefix"),
        ({"nixos_vm_ip": ["10.0.23.11/24", "10.0.23.12/24"]}, "nixos_vm_ip: 10.0.23.11/24 and 10.0.23.12/24 are two values of ip"),
        ({"nixos_vm_ip": "10.0.24.0/24"}, "nixos_vm_ip: is the address of the network itself or its broadcast address"),
        ({"nixos_vm_ip": "224.0.0.11/24"}, "nixos_vm_ip: is not an address that a NIC can have"),
        ({"nixos_vm_ip": "fe80::11/64", "nixos_vm_gateway": ""}, "nixos_vm_ip: is a link-local address"),
        ({"nixos_vm_ip": "::ffff:10.0.27.11/120", "nixos_vm_gateway": ""}, "nixos_vm_ip: is an IPv4 address in IPv6 notation"),
        ({"nixos_vm_gateway": "here"}, "nixos_vm_gateway: must be an IP address (got here)"),
        ({"nixos_vm_gateway": "fe80::1"}, "nixos_vm_gateway: fe80::1 is an IPv6 gateway, but nixos_vm_ip has no IPv6 address"),
        ({"nixos_vm_ip": "10.0.30.11/24", "nixos_vm_gateway": "10.0.30.11"}, "nixos_vm_gateway: is the address of the NIC itself"),
        ({"nixos_vm_ip": "10.0.31.11/24", "nixos_vm_gateway": "10.0.31.255"}, "nixos_vm_gateway: is the address of the network itself"),
        ({"nixos_vm_ip": "10.0.32.10/31", "nixos_vm_gateway": "10.0.32.10"}, "nixos_vm_gateway: is the address of the NIC itself"),
        ({"nixos_vm_ipconfig": {"ipconfig1": "ip=dhcp"}}, "nixos_vm_ipconfig.ipconfig1: has no NIC; add net1 to nixos_vm_net"),
        (
            {"nixos_vm_net": two, "nixos_vm_ipconfig": {"ipconfig1": "ip=10.9.0.11/24,gw=10.9.0.1"}},
            "nixos_vm_ipconfig.ipconfig1: gw=10.9.0.1 is a second IPv4 default route",
        ),
        ({"nixos_vm_ip": "10.0.38.11/24", "nixos_vm_address_family": "ipv6", "ansible_host": ...}, "nixos_vm_address_family: is ipv6"),
        ({"ansible_host": "fe80::1"}, "nixos_vm_address (ansible_host): a link-local address needs the controller's NIC as its zone"),
        ({"ansible_host": "[2001:db8::11]:22"}, "write ansible_host: 2001:db8::11 and ansible_port: 22"),
        ({"nixos_vm_nameservers": ["resolver"]}, "nixos_vm_nameservers: must be IP addresses (got resolver)"),
    ]
    hosts = {world.machine(**variables): said for variables, said in mistakes}
    writes = world.requests()
    play = world.controller.play(list(hosts))
    assert play.code != 0
    for host, said in hosts.items():
        failures = "\n".join(play.failures.get(host.name, [play.output]))
        assert said in failures, f"{host.variables}: {failures}"
        assert host.vms == []
    assert not [request for request in world.requests()[len(writes):] if request["method"] != "GET"]


# --- Machines that are reached by IPv6 ---------------------------------------------------------------


def by_ipv6_alone(world, tmp_path):
    """Installation, known host key, a second run, a deployment and the end, all at one literal address."""
    flake = tmp_path / "flake"
    shutil.copytree(PROJECT / "testing/demo/flake", flake)
    web = world.machine(ansible_host=..., nixos_vm_flake=f"{flake}#web", nixos_vm_deploy_timeout=5, nixos_vm_nameservers=["fd77::53"])
    web.address = f"fd77::{web.number:x}:11"
    web.variables |= {"nixos_vm_ip": f"FD77:0::{web.number:x}:0011/64", "nixos_vm_gateway": "fe80::1"}
    web.play().succeeded()
    assert web.vm.disk.address == web.address and web.runs() == [1, 1]
    known = (web.state() / "known_hosts").read_text()
    assert [line.split(" ")[0] for line in known.splitlines()] == [f"[{web.address}]:{world.ssh_port}"]
    assert login_by_key(web, web.state() / "known_hosts").returncode == 0
    assert web.play().succeeded().changed == 0
    # In another spelling it is the same machine.
    same = web.with_variables(nixos_vm_ip=f"{web.address}/64")
    assert same.play().succeeded().changed == 0
    old = web.vm.disk.system
    (flake / "stand-in.json").write_text(json.dumps({"*": {"version": 2}}))
    assert web.play(playbook="playbooks/deploy.yml").succeeded().changed == 1
    assert web.vm.disk.system != old
    # The address is taken while another machine answers at it.
    other = world.machine(**web.variables)
    other.play().refused(f"nixos_vm_ip: {web.address} port {world.ssh_port} answers already")
    assert other.vms == []
    web.destroy().succeeded()
    assert web.vms == []


def by_ipv6_of_both_families(world):
    """The preferred family is used; the host key is known under both addresses, and however the user spells them."""
    web = world.machine(ansible_host=..., nixos_vm_address_family="ipv6")
    web.address = f"fd77::{web.number:x}:12"
    web.variables |= {"nixos_vm_ip": [f"{web.inside}/24", f"{web.address}/64"], "nixos_vm_gateway": [world.variables()["nixos_vm_gateway"], "fe80::1"]}
    web.play().succeeded()
    assert web.vm.disk.address == f"{web.inside} {web.address}"
    file = web.state() / "known_hosts"
    names = lambda: [line.split(" ")[0] for line in file.read_text().splitlines()]  # noqa: E731
    assert names() == [f"[{web.address}]:{world.ssh_port}", f"[{web.inside}]:{world.ssh_port}"]
    spelled = f"FD77:0:0::{web.number:x}:0012"
    web.with_variables(ansible_host=spelled).play().succeeded()
    assert names()[2:] == [f"[{spelled.lower()}]:{world.ssh_port}"]
    assert web.with_variables(ansible_host=f"[{web.address}]").play().succeeded().changed == 0
    assert web.vm.disk.formats == 1


def by_ipv6_of_the_network(world):
    """The guest agent reports what router advertisements or DHCPv6 gave."""
    for number, ip, family in ((7601, "slaac", ...), (7602, ["dhcp", "dhcp6"], "ipv6")):
        web = world.machine(ansible_host=..., nixos_vm_ip=ip, nixos_vm_vmid=number, nixos_vm_address_family=family)
        web.address = f"fd77::{web.number:x}:13"
        world.agent_reports(number, "fe80::13/64", "10.0.0.13/24", f"{web.address}/64")
        web.play().succeeded()
        assert web.vm.disk.address == web.address
        known = (web.state() / "known_hosts").read_text()
        assert [line.split(" ")[0] for line in known.splitlines()] == [f"[{web.address}]:{world.ssh_port}", web.name]
        assert web.play().succeeded().changed == 0
