"""The role in an Ansible repository of another layout, with variables from a vault: and no secret is seen."""

import base64
import contextlib
import json
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path

from conftest import PROJECT
from machines import Machine

NUMBER = 33

# Roles of others in one directory, environments in another, no group called nixos_vms, no library/.
FILES = {
    "ansible.cfg": "[defaults]\nroles_path = vendor\nvault_password_file = @secrets@/vault-password\nhost_key_checking = True\n[ssh_connection]\nssh_args = -o ControlMaster=no\n",
    "environments/prod/hosts.ini": "[edge]\nbox ansible_host=127.77.0.@number@ ansible_port=2222 ansible_user=root\n",
    "environments/prod/host_vars/box/plain.yml": """
ansible_ssh_private_key_file: "@lab@/ssh/id_ed25519"
ansible_ssh_common_args: -o StrictHostKeyChecking=yes -o UserKnownHostsFile=@lab@/known
nixos_vm_known_hosts: "@lab@/known"
nixos_vm_api_host: 127.0.0.1
nixos_vm_api_port: @api_port@
nixos_vm_tls_fingerprint: "@tls_fingerprint@"
nixos_vm_node: pve
nixos_vm_ip: 10.77.0.@number@/24
nixos_vm_gateway: 10.77.0.1
nixos_vm_cpu: qemu64
nixos_vm_memory: 384
nixos_vm_install_memory: 512
nixos_vm_disks_storage: local
nixos_vm_disk_size: 4
nixos_vm_installer_iso: "@lab@/installer.iso"
nixos_vm_extra_files_dir: "@lab@/extra-files"
nixos_vm_persist: /persist
nixos_vm_extra_files:
  - path: /persist/var/lib/sops-nix/key.txt
    content: "{{ vault_age_key }}"
    mode: "0400"
    owner: "0:0"
nixos_vm_disk_encryption_keys:
  - remote: /tmp/disk.key
    local: "@secrets@/disk.key"
nixos_vm_install_options:
  nix_options: {max-jobs: 2}
  ssh_options: {Compression: true}
  ssh_store_settings: {compress: true}
  disko_deps: false
  substitute_on_destination: false
  use_machine_substituters: false
  print_build_logs: true
  show_trace: true
  debug: true
nixos_vm_state_root: "@lab@/state"
nixos_vm_tools_path: "@lab@/tools"
nixos_vm_flake: "@project@/testing/demo/flake#box"
""",
    "plays/site.yml": """
- hosts: edge
  gather_facts: false
  tasks:
    - ansible.builtin.include_role: {name: nixos_vm}
- hosts: edge
  gather_facts: false
  tasks:
    - name: Use it at once as any other host, and its facts
      ansible.builtin.raw: echo {{ nixos_vm_facts.vmid }} {{ nixos_vm_facts.closure }}; readlink -f /run/current-system; stat -c %a /persist/var/lib/sops-nix/key.txt
      register: seen
    - ansible.builtin.assert:
        that:
          - seen.stdout_lines[-3:] | map('trim') | list == ['100 ' ~ nixos_vm_facts.closure, nixos_vm_facts.closure, '400']
          - nixos_vm_facts.host_keys | length == 1
          - nixos_vm_facts.address == ansible_host
""",
    "plays/drives.yml": """
- hosts: edge
  gather_facts: false
  vars:
    connection: &connection
      api_host: "{{ nixos_vm_api_host }}"
      api_port: "{{ nixos_vm_api_port }}"
      tls_fingerprint: "{{ nixos_vm_tls_fingerprint }}"
      api_user: root@pam
      api_password: "{{ vault_password }}"
  module_defaults:
    proxmox_nixos_vm: *connection
    cloudinit_drive: *connection
  tasks:
    - delegate_to: localhost
      block:
        - proxmox_nixos_vm: {name: other, node: pve}
          register: other
        - cloudinit_drive: {vmid: "{{ other.vmid }}", node: pve, kind: native, drive: ide0, storage: local, cipassword: "{{ vault_cipassword }}"}
        - cloudinit_drive: {vmid: "{{ other.vmid }}", node: pve, drive: ide0, storage: local, state: absent}
        - cloudinit_drive:
            vmid: "{{ other.vmid }}"
            node: pve
            kind: nocloud
            drive: ide0
            storage: local
            user_data: {users: [{name: root, hashed_passwd: "{{ vault_user_data }}"}]}
        - cloudinit_drive: {vmid: "{{ other.vmid }}", node: pve, drive: ide0, storage: local, kind: nocloud, state: absent}
        - proxmox_nixos_vm: {vmid: "{{ other.vmid }}", name: other, node: pve, state: absent}
""",
}


class Watch(threading.Thread):
    """Looks for secrets where everybody on the controller may look, again and again while something runs."""

    def __init__(self, secrets, roots):
        super().__init__(daemon=True)
        self.secrets, self.roots = secrets, roots
        self.over = threading.Event()
        self.seen, self.rounds = set(), 0

    def run(self):
        while not self.over.wait(0.15):
            self.rounds += 1
            self.processes()
            self.files()

    def look(self, text, where):
        for name, secret in list(self.secrets.items()):
            if secret in text:
                at = text.index(secret)
                self.seen.add(f"{name} in {where}, after {text[max(0, at - 120) : at]}")

    def processes(self):
        for process in Path("/proc").glob("[0-9]*"):
            if process.name == str(os.getpid()):
                continue
            with contextlib.suppress(OSError):
                command = (process / "cmdline").read_bytes()
                self.look(command, f"the command line of {command[:60]}")
                self.look((process / "environ").read_bytes(), f"the environment of {command[:60]}")

    def files(self):
        """Others get to a file through directories that they may search, and read it if its mode lets them."""
        for root in self.roots:
            for directory, directories, names in os.walk(root):
                directories[:] = [d for d in directories if self.mode(f"{directory}/{d}") & 0o001]
                for name in names:
                    file = f"{directory}/{name}"
                    if self.mode(file) & 0o004:
                        with contextlib.suppress(OSError):
                            self.look(Path(file).read_bytes(), file)

    @staticmethod
    def mode(path):
        try:
            return os.lstat(path).st_mode if not os.path.islink(path) else 0
        except OSError:
            return 0

    def end(self):
        self.over.set()
        self.join()
        assert self.rounds > 3
        return self.seen


def key_line(private):
    """A line in the middle of a private key, which is in no public one."""
    return private.splitlines()[3].encode()


class Repository:
    """Somebody's repository with the role in it, a vault, and planted secrets that are watched for."""

    def __init__(self, machine, path):
        self.machine, self.lab, self.path = machine, machine.lab.path, path / "infra"
        secrets = path / "secrets"
        secrets.mkdir(mode=0o700)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "box", "-f", secrets / "host_key"], check=True)
        (secrets / "disk.key").write_text("planted-disk-key-K5tz")
        (secrets / "vault-password").write_text("planted-vault-password-X2")
        endpoint = machine.lab.endpoint
        vault = {
            "nixos_vm_api_token_id": endpoint["api_token_id"],
            "nixos_vm_api_user": endpoint["api_user"],
            "nixos_vm_api_token_secret": endpoint["api_token_secret"],
            "nixos_vm_ssh_host_key": {"private": (secrets / "host_key").read_text()},
            "vault_password": endpoint["api_password"],
            "vault_age_key": "AGE-SECRET-KEY-1QQPLANTEDEXTRAFILE\n",
            "vault_cipassword": "planted-cipassword-7Hq2",
            "vault_user_data": "$6$plantedUserData$" + "9Jw1" * 21 + "./",
        }
        planted = {
            "the token": endpoint["api_token_secret"].encode(),
            "the password": endpoint["api_password"].encode(),
            "the host key": key_line((secrets / "host_key").read_text()),
            "the extra file": vault["vault_age_key"].strip().encode(),
            "cipassword": vault["vault_cipassword"].encode(),
            "user_data": vault["vault_user_data"].encode(),
            "the disk key": b"planted-disk-key-K5tz",
            "the vault's password": b"planted-vault-password-X2",
        }
        self.planted = planted | {
            f"{name}, in base64": base64.b64encode(secret)[:-4] for name, secret in planted.items() if len(secret) > 16
        }
        shutil.copytree(PROJECT / "roles/nixos_vm", self.path / "vendor/nixos_vm")  # with its library
        values = {"lab": self.lab, "secrets": secrets, "project": PROJECT, "number": NUMBER, **endpoint}
        for name, text in FILES.items():
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).write_text(re.sub("@([a-z_]+)@", lambda found: str(values[found[1]]), text))
        (self.path / "environments/prod/host_vars/box/vault.yml").write_text(json.dumps(vault))
        self.run("ansible-vault", "encrypt", "environments/prod/host_vars/box/vault.yml")

    def run(self, *command, **environment):
        environment = self.machine.environment() | {"ANSIBLE_CONFIG": str(self.path / "ansible.cfg"), **environment}
        done = subprocess.run(
            command,
            cwd=self.path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1200,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-5000:]
        return done.stdout

    def audit(self, playbook, **environment):
        """Run it, looking for the secrets meanwhile, in its output, and in the host's records."""
        watch = Watch(self.planted, [self.lab / name for name in ("state", "tmp", "ansible", "home", "extra-files")])
        # The lab is its owner's alone; what it holds must not rely on that.
        self.lab.chmod(0o755)
        watch.start()
        threading.Thread(target=learn, args=(self.planted, self.machine.state, watch.over), daemon=True).start()
        try:
            output = self.run("ansible-playbook", playbook, "-i", "environments/prod", "-vvvv", "--diff", **environment)
            watch.files()
        finally:
            watch.end()
            self.lab.chmod(0o700)
        # Nothing is hidden by accident: what is not a secret is shown.
        assert "invocation" in output and "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER" in output
        watch.look(output.encode(), "the output")
        for path in [*(self.lab / name for name in ("pve/requests.jsonl", "pve/server.log")), *(self.lab / "pve/tasks").iterdir()]:
            watch.look(path.read_bytes(), path.name)
        for path in (self.lab / "pve/storage").rglob("*.iso"):
            assert path.name == "installer.iso"
        assert watch.seen == set()


def test_a_foreign_repository(tmp_path):
    machine = Machine(tmp_path, "tiny", "box", NUMBER)
    try:
        repository = Repository(machine, tmp_path)
        # The installed system has its host key below /persist only.
        settings = (PROJECT / "testing/images/tiny/root/etc/ssh/sshd_config").read_text()
        (machine.lab.path / "extra-files/etc/ssh").mkdir()
        (machine.lab.path / "extra-files/etc/ssh/sshd_config").write_text(
            settings + "HostKey /persist/etc/ssh/ssh_host_ed25519_key\n"
        )
        repository.audit("plays/site.yml")
        assert {"installer_client_key", "installer_host_key"} <= set(repository.planted)
        assert machine.installations() == ["0"] and machine.phase() == "done"
        (line,) = [line for line in machine.runs.read_text().splitlines() if line.endswith(" begins")]
        for words in (
            "--ssh-option Compression=yes",
            "--ssh-store-setting compress true",
            "--no-substitute-on-destination",
            "--no-use-machine-substituters",
            "--print-build-logs",
            "--show-trace",
            "--debug",
        ):
            assert f" {words} " in line, line
    finally:
        machine.end()


def test_the_secrets_of_cloud_init_drives(tmp_path):
    machine = Machine(tmp_path, "none", "box", NUMBER)
    try:
        repository = Repository(machine, tmp_path)
        repository.audit("plays/drives.yml", ANSIBLE_LIBRARY=str(repository.path / "vendor/nixos_vm/library"))
        assert machine.vm_configs() == []
    finally:
        machine.end()


def learn(planted, state, over):
    """The keys that the role makes are secrets too, as long as they are there."""
    while not over.wait(0.2):
        for name in ("installer_client_key", "installer_host_key"):
            for path in state.glob(f"*/{name}"):
                with contextlib.suppress(OSError):
                    text = path.read_text()
                    if len(text.splitlines()) > 4:
                        planted[name] = key_line(text)
