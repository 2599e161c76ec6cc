"""Masking hides secrets, and never changes what the program itself records."""

def assert_recorded(web):
    """Installed; what is on record is what runs."""
    vm = web.vm
    assert vm.record["phase"] == "done" and "*" not in vm.notes
    (closure,) = web.state().rglob("closure")
    assert closure.read_text().strip() == vm.disk.system
    assert "*" not in next(web.state().rglob("record.json")).read_text()


def test_an_extra_file_with_a_common_word_masks_no_closure(world):
    hosts = [world.machine() for _ in range(2)]
    for host, content in zip(hosts, ("web-server\n", "# hosts\nweb-server\nlocalhost\n"), strict=True):
        host.variables["nixos_vm_extra_files"] = [{"path": "/etc/flag", "content": content}]
    flake = world.variables()["nixos_vm_flake"] + "-server"
    world.controller.play(hosts, nixos_vm_flake=flake).succeeded()
    for host in hosts:
        assert "web-server" in host.vm.disk.system
        assert_recorded(host)
    assert world.controller.play(hosts, nixos_vm_flake=flake).succeeded().changed == 0


def test_a_password_that_is_one_of_the_role_s_own_words(world):
    hosts = []
    for password in ("nixos", "install", "local", "done", "phase", "a", "1"):
        web = world.machine()
        web.variables = {"nixos_vm_api_user": world.password_user(f"user{web.number}", password), "nixos_vm_api_password": password}
        hosts.append(web)
    tokens = {"nixos_vm_api_token_id": ..., "nixos_vm_api_token_secret": ...}
    world.controller.play(hosts, **tokens).succeeded()
    for web in hosts:
        assert_recorded(web)
    assert world.controller.play(hosts, **tokens).succeeded().changed == 0


def test_a_password_that_is_the_name_of_the_host(world):
    """The host's name is in the path of its state directory, which later tasks work with."""
    web = world.machine("webserver2024-")
    web.variables = {"nixos_vm_api_user": world.password_user("named", web.name), "nixos_vm_api_password": web.name}
    web.play(nixos_vm_api_token_id=..., nixos_vm_api_token_secret=...).succeeded()
    assert_recorded(web)
    assert [path.name for path in world.controller.state.iterdir() if "*" in path.name] == []


def test_a_long_secret_is_shown_nowhere(world):
    """In no output at the highest verbosity, and in no file that stays."""
    secret = "AGE-SECRET-KEY-1QQQSYNTHETICQQQ"
    web = world.machine(nixos_vm_extra_files=[{"path": "/var/lib/age.key", "content": secret}])
    web.behaves(fails=("install",))
    outputs = [web.play("-vvvv", "--diff").refused().output]
    web.behaves()
    outputs.append(web.play("-vvvv", "--diff").succeeded().output)
    for output in outputs:
        # Of the inventory itself nothing is printed, so every occurrence would be a leak.
        assert secret not in output and world.endpoint["api_token_secret"] not in output
    assert world.controller.files_with(secret) == []
    assert [path for path in web.state().rglob("*") if path.is_file() and secret in path.read_text(errors="replace")] == []
