"""Two hosts never become one machine, and a machine never gets an address that is in use."""


STOCK = {"provisioned": 1}


def test_two_hosts_that_claim_one_thing_are_both_refused(world):
    """Name, VMID, address or MAC, whatever the spelling; the others of the play are not held up by it."""
    names, spelt, numbers, addresses, inside, nics = ([world.machine(), world.machine()] for _ in range(6))
    for host in names:
        host.variables = {"nixos_vm_name": f"shared{names[0].number}"}
    for host, api_host in zip(spelt, ("127.0.0.1", "localhost"), strict=True):
        host.variables = {"nixos_vm_name": f"Spelt{spelt[0].number}", "nixos_vm_api_host": api_host}
    for host in numbers:
        host.variables = {"nixos_vm_vmid": 7000}
    for host in addresses:
        host.variables = {"ansible_host": addresses[0].address}
    for host in inside:
        host.variables = {"nixos_vm_ip": f"{inside[0].inside}/24"}
    for host in nics:
        host.variables = {"nixos_vm_net": {"net0": "virtio=BC:24:11:00:00:AA,bridge=vmbr0"}}
    pairs = [names, spelt, numbers, addresses, inside, nics]
    with world.unchanged():
        play = world.controller.play([host for pair in pairs for host in pair]).refused()
    for pair in pairs:
        for host, other in (pair, pair[::-1]):
            assert other.name in " ".join(play.failures.get(host.name, [])), (host.name, play.failures)


def test_names_that_differ_in_case_only_are_one_name(world):
    """PVE keeps them apart, DNS does not."""
    first, second = world.machine(), world.machine()
    first.variables, second.variables = {"nixos_vm_name": "Cased"}, {"nixos_vm_name": "cased"}
    with world.unchanged():
        world.controller.play([first, second]).refused(first.name, second.name)


def test_an_address_that_answers_already_is_found_before_the_boot(world):
    web, other = world.machine(), world.machine()
    taken = world.in_production(other)
    squatter = web.with_variables(ansible_host=other.address, nixos_vm_ip=f"{other.inside}/24")
    with world.untouched(taken):
        squatter.play().refused(other.address)
    assert [vm for vm in squatter.vms if vm.running] == []


def test_another_key_at_the_address_of_a_machine_under_way(world, provisioned):
    """Its own installer is stopped; something else took the address meanwhile."""
    web = provisioned
    web.vm.stop()
    squatter = world.in_production(web, name=f"squatter{web.number}")
    with world.untouched(squatter):
        web.play(nixos_vm_boot_timeout=5).refused(web.address)
    assert web.vm.disk.formats == 0
    # The refusal is over when the address is free again.
    squatter.destroy()
    web.play().succeeded()
