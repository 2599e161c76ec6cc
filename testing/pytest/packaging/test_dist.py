"""What is shipped can be installed, documented and run. The modules are those that are in library/ already."""

import json
import os
import re
import shutil
import subprocess
import tarfile

import pytest
from conftest import PROJECT, environment

MODULES = sorted(path.stem for path in (PROJECT / "library").glob("*.yml"))


def run(*command, cwd, **variables):
    # Without the project's own configuration: nothing of its checkout may be found.
    env = {k: v for k, v in environment(**variables).items() if k != "ANSIBLE_CONFIG"}
    done = subprocess.run(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False
    )
    return done.returncode, done.stdout


def xtask(*arguments):
    program = os.environ.get("XTASK", "cargo xtask").split()
    done = subprocess.run(
        [*program, "dist", *arguments], cwd=PROJECT, capture_output=True, text=True, timeout=1800, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """Both for this computer, and for one of another architecture too: its programs are copies that say so."""
    path = tmp_path_factory.mktemp("dist")
    own, other = path / "own", path / "other"
    other_code = 183 if os.uname().machine == "x86_64" else 62
    for directory in (own, other):
        directory.mkdir()
    for name in MODULES:
        shutil.copy(PROJECT / "library" / name, own)
        # As they are shipped. With what debuggers need they take seconds to pack.
        subprocess.run(["strip", own / name], check=True)
        program = bytearray((own / name).read_bytes()[:4096])
        program[18:20] = other_code.to_bytes(2, "little")
        (other / name).write_bytes(program)
    # What somebody keeps in the inventory of a clone is not shipped.
    secret = PROJECT / "inventory/group_vars/nixos_vms/not-tracked.yml"
    secret.write_text("test_of_dist: distinctive\n")
    try:
        code, output = xtask("--library", str(own), "--library", str(other), "--out", str(path / "out"))
    finally:
        secret.unlink()
    assert code == 0, output
    return path / "out"


@pytest.fixture(scope="module")
def installed(shipped, tmp_path_factory):
    """A directory without a checkout, with the collection in it."""
    path = tmp_path_factory.mktemp("user")
    (archive,) = shipped.glob("nixos_proxmox-pve-*.tar.gz")
    code, output = run("ansible-galaxy", "collection", "install", str(archive), "-p", "collections", cwd=path)
    assert code == 0 and "installed successfully" in output, output
    return path


def galaxy(path, *command, **variables):
    return run(*command, cwd=path, ANSIBLE_COLLECTIONS_PATH=str(path / "collections"), **variables)


def test_everything_in_the_collection_is_documented(installed):
    names = [("module", f"nixos_proxmox.pve.{name}") for name in MODULES]
    others = [("role", "nixos_vm"), ("callback", "nixos_vm_progress"), ("inventory", "inventory")]
    for kind, name in [*names, *((kind, f"nixos_proxmox.pve.{name}") for kind, name in others)]:
        code, output = galaxy(installed, "ansible-doc", "-t", kind, "-j", name)
        assert code == 0 and name in json.loads(output), output


def test_the_list_of_modules_describes_each(installed):
    code, output = galaxy(installed, "ansible-doc", "-l", "nixos_proxmox.pve")
    assert code == 0 and "formatting error" not in output and "UNDOCUMENTED" not in output, output
    assert all(re.search(rf"^nixos_proxmox\.pve\.{name} +\w", output, re.M) for name in MODULES), output


def test_the_list_of_modules_has_no_warnings_in_a_checkout():
    code, output = run("ansible-doc", "-l", "-M", "library", cwd=PROJECT)
    assert code == 0 and "formatting error" not in output, output


def test_modules_are_text(installed):
    # ansible-test and ansible-doc read whatever lies there.
    modules = installed / "collections/ansible_collections/nixos_proxmox/pve/plugins/modules"
    assert sorted(path.name for path in modules.iterdir()) == sorted(f"{name}.py" for name in MODULES)
    for path in modules.iterdir():
        compile(path.read_text(), path, "exec")


def test_the_connection_is_said_once(installed, lab):
    (installed / "play.yml").write_text(
        json.dumps(
            [
                {
                    "hosts": "localhost",
                    "gather_facts": False,
                    "module_defaults": {"group/nixos_proxmox.pve.pve": lab.connection},
                    "tasks": [
                        {"nixos_proxmox.pve.proxmox_nixos_vm": {"node": "pve", "name": "web1", "state": "current"}},
                        {"nixos_proxmox.pve.proxmox_iso": {"node": "pve", "storage": "local", "name": "none.iso", "state": "absent"}},
                    ],
                }
            ]
        )
    )
    code, output = galaxy(installed, "ansible-playbook", "play.yml")
    assert code == 0 and "ok=2    changed=0" in output, output
    code, output = galaxy(installed, "ansible-playbook", "play.yml", "--check")
    assert code == 0, output


def inventory(path):
    directory = path / "inventory"
    directory.mkdir(exist_ok=True)
    group_vars = directory / "group_vars"
    if not group_vars.exists():
        group_vars.symlink_to(PROJECT / "testing/demo/inventory/group_vars")
    host = {"ansible_host": "127.77.0.52", "ansible_port": 2222, "nixos_vm_ip": "10.77.0.52/24"}
    host |= {"nixos_vm_flake": f"{PROJECT}/testing/demo/flake#web1", "nixos_vm_tools_path": f"{PROJECT}/testing/stand-in"}
    (directory / "hosts.yml").write_text(json.dumps({"nixos_vms": {"hosts": {"web1": host}}}))
    return str(directory)


def test_the_collections_playbooks_and_role_work(installed, lab):
    variables = {
        "NIXOS_PROXMOX_DEMO_DIR": str(lab.path),
        "ANSIBLE_CALLBACKS_ENABLED": "nixos_proxmox.pve.nixos_vm_progress",
    }
    play = ["-i", inventory(installed), "-vvv"]
    code, output = galaxy(installed, "ansible-playbook", "nixos_proxmox.pve.plan", *play, **variables)
    assert code == 0 and "1 of 1 host is to be created" in output, output
    code, output = galaxy(installed, "ansible-playbook", "nixos_proxmox.pve.provision", *play, "--tags", "upload,provision", **variables)
    assert code == 0 and "unable to load" not in output, output
    assert re.search(r'"progress_path": "\S+/nixos-vm-progress/web1"', output), output
    assert len(list((lab.path / "pve/qemu-server").glob("*.conf"))) == 1
    confirm = ["-e", "nixos_vm_confirm_destroy=web1"]
    code, output = galaxy(installed, "ansible-playbook", "nixos_proxmox.pve.destroy", *play, *confirm, **variables)
    assert code == 0 and not list((lab.path / "pve/qemu-server").glob("*.conf")), output


def environment_of(lab):
    names = {"HOST": "api_host", "PORT": "api_port", "USER": "api_user", "TOKEN_ID": "api_token_id", "TOKEN_SECRET": "api_token_secret"}
    return {f"PROXMOX_{name}": str(lab.endpoint[key]) for name, key in {**names, "TLS_FINGERPRINT": "tls_fingerprint"}.items()}


def test_the_collections_inventory_plugin_works(installed, lab):
    made = lab.module("proxmox_nixos_vm", node="pve", name="listed1", memory=16, tags=["listed"])
    assert not made.failed, made.output
    try:
        (installed / "x.nixos_proxmox.yml").write_text("{plugin: nixos_proxmox.pve.inventory, tags: [listed]}\n")
        command = ["ansible-inventory", "-i", "x.nixos_proxmox.yml", "--list"]
        code, output = galaxy(installed, *command, **environment_of(lab))
        # Its name is known some seconds later.
        assert code == 0 and '"proxmox_tag_listed"' in output and f'"proxmox_vmid": {made.data["vmid"]}' in output, output
        site = installed / "other"
        site.mkdir()
        (site / "sitecustomize.py").write_text("import platform\nplatform.machine = lambda: 'riscv64'\n")
        code, output = galaxy(installed, *command, PYTHONPATH=str(site), **environment_of(lab))
        assert "nixos_vm_inventory is not in this collection for riscv64" in " ".join(output.split()), output
    finally:
        lab.module("proxmox_nixos_vm", node="pve", name="listed1", state="absent")


def test_each_computer_gets_its_own_program(installed):
    machine = os.uname().machine
    other = "aarch64" if machine == "x86_64" else "x86_64"
    play = "- {hosts: localhost, gather_facts: false, tasks: [{nixos_proxmox.pve.proxmox_iso: {node: pve}}]}"
    (installed / "machine.yml").write_text(play)
    for pretended, expected in [(machine, "missing required arguments"), (other, "(?i)exec format error|rc.: (126|-?8)"), ("riscv64", "only for aarch64, x86_64")]:
        site = installed / pretended
        site.mkdir(exist_ok=True)
        (site / "sitecustomize.py").write_text(f"import platform\nplatform.machine = lambda: {pretended!r}\n")
        code, output = galaxy(installed, "ansible-playbook", "machine.yml", PYTHONPATH=str(site))
        assert code != 0 and re.search(expected, output), (pretended, output)


def test_the_tarball_is_complete(shipped, lab, tmp_path):
    (archive,) = shipped.glob(f"nixos-proxmox-*-{os.uname().machine}-linux.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path)  # noqa: S202, made above
    (top,) = tmp_path.iterdir()
    assert (top / "LICENSES/MIT.txt").exists() and (top / "docs").is_dir() and (top / "examples/nixos-config/flake.nix").exists()
    assert (top / "inventory/group_vars/nixos_vms/main.yml").exists() and not list((top / "inventory").rglob("vault.yml"))
    code, output = run(
        "ansible-playbook", "provision.yml", "-i", inventory(tmp_path), "--tags", "upload", cwd=top, NIXOS_PROXMOX_DEMO_DIR=str(lab.path)
    )
    assert code == 0, output
    code, output = run("ansible-doc", "-t", "module", "-M", "library", "proxmox_iso", cwd=top)
    assert code == 0 and "checksum" in output, output
    (top / "x.nixos_proxmox.yml").write_text("plugin: nixos_proxmox\n")
    code, output = run("ansible-inventory", "-i", "x.nixos_proxmox.yml", "--list", cwd=top, **environment_of(lab))
    assert code == 0 and '"proxmox_all_qemu"' in output, output
    # ansible-doc reads each file of a library as text, and warns about programs; it skips links.
    for library in ["library", "roles/nixos_vm/library"]:
        code, output = run("ansible-doc", "-t", "module", "-M", library, "-l", cwd=top)
        assert code == 0 and "WARNING" not in output, output
    # As the README says.
    shutil.copytree(top / "roles/nixos_vm", tmp_path / "copied")
    for name in MODULES:
        program = tmp_path / "copied/library" / name
        assert program.is_file() and not program.is_symlink() and os.access(program, os.X_OK), name


def test_a_tarball_for_each_architecture_has_what_git_tracks(shipped):
    contents = {}
    for machine, code in [("x86_64", 62), ("aarch64", 183)]:
        (archive,) = shipped.glob(f"nixos-proxmox-*-{machine}-linux.tar.gz")
        with tarfile.open(archive) as tar:
            (top,) = {member.name.split("/")[0] for member in tar}
            assert top == archive.name.removesuffix(".tar.gz")
            for name in MODULES:
                head = tar.extractfile(f"{top}/library/{name}").read(20)
                assert (head[:4], head[18]) == (b"\x7fELF", code)
            members = {member.name.removeprefix(f"{top}/"): member for member in tar if member.name != top}
            assert all((member.uid, member.gid) == (0, 0) for member in members.values())
            documents = {name: tar.extractfile(f"{top}/{name}").read().decode() for name in members if name.endswith(".md")}
        contents[machine] = set(members)
        for name, text in documents.items():
            for link in re.findall(r"\]\(([^)#\s:]+)[)#]", text):
                assert os.path.normpath(os.path.join(os.path.dirname(name), link)) in members, (name, link)
    assert contents["x86_64"] == contents["aarch64"]
    tracked = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout.splitlines()
    files = {name for name, member in members.items() if not member.isdir()} - {f"{directory}/{name}" for directory in ["library", "programs"] for name in MODULES}
    assert files <= set(tracked), files - set(tracked)


def test_what_is_no_module_is_not_shipped(tmp_path):
    code, output = xtask("--library", str(PROJECT / "docs"), "--out", str(tmp_path))
    assert code != 0 and "proxmox_iso" in output, output
    for name in MODULES:
        (tmp_path / name).write_text("#!/bin/sh\n# not what is wanted\n")
    code, output = xtask("--library", str(tmp_path), "--out", str(tmp_path))
    assert code != 0 and "is not a Linux program for x86_64 or aarch64" in output, output
