"""The callback plugin nixos_vm_progress: on a terminal, without one, and in trouble."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
import time

import pytest
from conftest import PROJECT, environment

HERE = PROJECT / "testing/pytest/callback"
PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - name: Put the installer on the storage
      proxmox_iso:
        progress_path: "{{ lookup('ansible.builtin.env', 'NIXOS_VM_PROGRESS_DIR') ~ '/' ~ inventory_hostname
          if lookup('ansible.builtin.env', 'NIXOS_VM_PROGRESS_DIR') else '' }}"
        lines: "{{ lines }}"
        gate: GATE
      tags: upload
    - name: Something short
      ansible.builtin.debug:
        msg: done
"""
UPLOAD = [
    {"event": "step", "step": "upload", "object": "local:iso/x.iso"},
    {"event": "transfer", "step": "upload", "object": "local:iso/x.iso", "sent": 0, "size": 2**31, "rate": 0},
    {"event": "transfer", "step": "upload", "object": "local:iso/x.iso", "sent": 2**29, "size": 2**31, "rate": 2**27},
]


class Run:
    """A play of `hosts`, each of which writes its lines and waits for the gate."""

    def __init__(self, path, hosts, **variables):
        self.gate = path / "gate"
        self.temporary = path / "tmp"
        self.playbook = path / "play.yml"
        self.playbook.write_text(PLAY.replace("GATE", str(self.gate)))
        self.inventory = path / "hosts.json"
        lines = {name: {"lines": [e if isinstance(e, str) else json.dumps(e) for e in events]} for name, events in hosts.items()}
        self.inventory.write_text(json.dumps({"all": {"hosts": lines}}))
        self.environment = environment(
            ANSIBLE_CALLBACK_PLUGINS=str(PROJECT / "roles/nixos_vm/callback_plugins"),
            ANSIBLE_LIBRARY=str(HERE / "library"),
            ANSIBLE_LOCAL_TEMP=str(self.temporary),
            ANSIBLE_FORKS="10",
            TERM="xterm",
            COLUMNS="100",
            **variables,
        )
        self.command = ["ansible-playbook", str(self.playbook), "-i", str(self.inventory), "-c", "local"]
        self.command += ["-e", f"ansible_python_interpreter={sys.executable}"]

    def began(self):
        return self.gate.with_name("gate.began").exists()

    def open(self):
        self.gate.touch()

    def on_terminal(self, rows=40, columns=110):
        return Terminal(self, rows, columns)

    def without_terminal(self, while_it_waits=None):
        """Standard output and error, apart."""
        play = subprocess.Popen(
            self.command, cwd=PROJECT, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        errors = []
        reader = threading.Thread(target=lambda: errors.extend(play.stderr))
        reader.start()
        try:
            if while_it_waits:
                wait_until(lambda: while_it_waits("".join(errors)) or play.poll() is not None, "the lines")
            else:
                wait_until(lambda: self.began() or play.poll() is not None, "the modules to begin")
        finally:
            self.open()
        output = play.stdout.read()
        code = play.wait(120)
        reader.join()
        return code, output, "".join(errors)


class Terminal:
    """A pseudo-terminal, and what it shows: just the control sequences that are in use."""

    def __init__(self, run, rows, columns):
        self.raw = b""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.run = run
        self.play = subprocess.Popen(
            run.command, cwd=PROJECT, env=run.environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        self.descriptor = ours
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        try:
            while data := os.read(self.descriptor, 65536):
                self.raw += data
        except OSError:
            pass

    def screen(self):
        lines, row, column = [""], 0, 0
        for control, text in re.findall(r"(\x1b\[\d*[A-Za-z]|\r|\n)|([^\x1b\r\n]+)", self.raw.decode(errors="replace")):
            if text:
                line = lines[row].ljust(column)
                lines[row] = line[:column] + text + line[column + len(text) :]
                column += len(text)
            elif control == "\r":
                column = 0
            elif control == "\n":
                row += 1
                lines += [""] * (row + 1 - len(lines))
            elif control.endswith("A"):
                row -= int(control[2:-1])
                assert row >= 0
            elif control.endswith("K"):
                lines[row] = lines[row][:column]
            elif control.endswith("J"):
                lines[row] = lines[row][:column]
                del lines[row + 1 :]
            else:
                raise AssertionError(control)
        return "\n".join(line.rstrip() for line in lines).strip()

    def shows(self, pattern):
        wait_until(lambda: re.search(pattern, self.screen()) or self.play.poll() is not None, pattern)
        match = re.search(pattern, self.screen())
        assert match, self.screen()
        return match

    def end(self):
        self.run.open()
        code = self.play.wait(120)
        self.reader.join()
        os.close(self.descriptor)
        return code, self.screen()


def wait_until(condition, what):
    end = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < end, f"waited 90 s for {what}"
        time.sleep(0.05)


def normalised(output):
    """Results of hosts come in any order, and lines of stars as wide as the terminal."""
    tasks = re.split(r"^(?=TASK|PLAY)", re.sub(r" \*+$", "", output, flags=re.M), flags=re.M)
    return ["\n".join(sorted(line.rstrip() for line in task.split("\n") if line.strip())) for task in tasks]


@pytest.fixture
def expected(tmp_path):
    """The output of the play without progress."""

    def expected(hosts):
        path = tmp_path / "without"
        path.mkdir()
        code, output, errors = started(path, hosts, NIXOS_VM_PROGRESS="off").without_terminal()
        assert (code, errors) == (0, "")
        return normalised(output)

    return expected


def started(path, hosts, **variables):
    return Run(path, hosts, ANSIBLE_CALLBACKS_ENABLED="nixos_vm_progress", **variables)


HOSTS = {
    "db1": UPLOAD,
    "web1": [{"event": "phase", "host": "192.0.2.1", "phase": "Installing NixOS"}],
    "web22": [{"event": "waiting", "host": "192.0.2.2", "reason": "connection\x1b[2J\nrefused"}],
}


def test_on_a_terminal_the_lines_stay_below_the_output_and_go(tmp_path, expected):
    terminal = started(tmp_path, HOSTS).on_terminal()
    try:
        terminal.shows(r"\n  db1    2/6 upload  \[##        \]  25%  512 MiB of 2\.0 GiB  128 MiB/s  uploading local:iso/x\.iso +\d+:\d\d\n")
        terminal.shows(r"\n  web1   2/6 upload  Installing NixOS +\d+:\d\d\n")
        # What a guest says controls no terminal.
        terminal.shows(r"\n  web22  2/6 upload  waiting: connection \[2J refused +\d+:\d\d")
        assert b"\x1b[2J" not in terminal.raw
        # Time goes on in place.
        terminal.shows(r"\n  web1 .*\d:(0[2-9]|[1-5]\d)\n")
        assert terminal.screen().count("Installing NixOS") == 1
    finally:
        code, screen = terminal.end()
    assert code == 0, screen
    assert normalised(screen) == expected(HOSTS)
    assert not list((tmp_path / "tmp").glob("*"))


def test_more_hosts_than_lines_are_counted(tmp_path):
    hosts = {f"host{number:02}": UPLOAD for number in range(8)}
    terminal = started(tmp_path, hosts).on_terminal(rows=10, columns=60)
    try:
        terminal.shows(r"\n  and 3 more hosts")
        shown = [line for line in terminal.screen().split("\n") if line.startswith("  ")]
        assert len(shown) == 6 and all(len(line) < 60 for line in shown), shown
    finally:
        code, screen = terminal.end()
    assert code == 0 and "more hosts" not in screen, screen


def test_the_reason_of_a_wait_is_wrapped_not_cut(tmp_path):
    reason = "connection refused by 192.0.2.111 port 22 (it runs, and sshd does not yet), since the guest's agent reported an address"
    hosts = {"application-server-7": [{"event": "waiting", "host": "192.0.2.111", "reason": reason}], "web1": UPLOAD}
    terminal = started(tmp_path, hosts).on_terminal(columns=80)
    try:
        terminal.shows(r"reported an address\n  web1 ")
        shown = [line for line in terminal.screen().split("\n") if line.startswith("  ")]
        text = " ".join(re.sub(r" \d:\d\d$", "", line).strip() for line in shown)
        assert f"waiting: {reason}" in text, text
        assert all(len(line) < 80 for line in shown), shown
    finally:
        code, screen = terminal.end()
    assert code == 0, screen
    # Nothing of the lines stays behind.
    assert "waiting:" not in screen, screen


def test_a_terminal_of_unknown_size_is_none_too_small(tmp_path):
    terminal = started(tmp_path, HOSTS).on_terminal(rows=0, columns=0)
    try:
        terminal.shows(r"\n  web1   2/6 upload  Installing NixOS")
    finally:
        code, screen = terminal.end()
    assert code == 0, screen


def test_without_a_terminal_lines_go_to_standard_error(tmp_path, expected):
    many = [*UPLOAD, *({**UPLOAD[-1], "sent": 2**29 + n} for n in range(5000))]
    hosts = {**HOSTS, "db1": many}
    run = started(tmp_path, hosts, NIXOS_VM_PROGRESS_INTERVAL="1000")
    code, output, errors = run.without_terminal(lambda text: all(word in text for word in ("25%", "Installing", "refused")))
    assert code == 0, output + errors
    assert normalised(output) == expected(hosts)
    assert re.search(r"^  db1  2/6 upload  \[##        \]  25% .* uploading local:iso/x\.iso.*  \(\d+:\d\d\)$", errors, re.M), errors
    assert "\x1b" not in errors
    # One line for what a host does (and one for its task, if that was seen first), however many the module wrote.
    assert errors.count("\n") <= 6, errors


def test_a_host_is_heard_of_again(tmp_path):
    run = started(tmp_path, HOSTS, NIXOS_VM_PROGRESS_INTERVAL="1")
    code, _, errors = run.without_terminal(lambda text: text.count("  web1  ") >= 3)
    assert code == 0, errors


@pytest.mark.parametrize(
    "lines",
    [
        ["", "no JSON", "{", "[1]", '"text"', "null", '{"event": "transfer"}', '{"event": ["phase"], "phase": {}}'],
        ['{"event": "transfer", "sent": "x", "size": 0}', '{"event": "phase", "phase": 7}', '{"event": "new", "x": 1}'],
        ["x" * 3_000_000],
        [f'{{"event": "phase", "phase": "{"y" * 100_000}"}}'],
    ],
)
def test_whatever_is_in_the_files_the_play_goes_on(tmp_path, expected, lines):
    hosts = {"bad": [line[:90000] for line in lines] * (1 + len(lines[0]) // 90000), "good": HOSTS["web1"]}
    terminal = started(tmp_path, hosts).on_terminal()
    try:
        terminal.shows(r"\n  good  2/6 upload  Installing NixOS")
    finally:
        code, screen = terminal.end()
    assert code == 0, screen
    assert normalised(screen) == expected(hosts)


def test_standard_error_that_nobody_reads_ends_no_play(tmp_path):
    run = started(tmp_path, HOSTS)
    read, write = os.pipe()
    os.close(read)
    play = subprocess.Popen(run.command, cwd=PROJECT, env=run.environment, stdout=subprocess.PIPE, stderr=write, text=True)
    os.close(write)
    wait_until(run.began, "the modules to begin")
    time.sleep(2)  # the plugin shows nothing of what takes less than a second
    run.open()
    output, _ = play.communicate(timeout=120)
    assert play.returncode == 0 and "unreachable=0    failed=0" in output, output


LIFECYCLE = """
- hosts: all
  gather_facts: false
  tasks:
    - name: The role
      ansible.builtin.HOW:
        name: nixos_vm
"""
ROLE = """
- name: Read the machine
  nixos_vm_lifecycle: {step: decide, progress_path: "{{ path }}", lines: [], gate: "{{ gate }}.no"}
  tags: always
- name: Take the steps that are due
  ansible.builtin.include_tasks: steps.yml
  tags: [image, upload, provision, boot, install, finalize]
"""
STEPS = """
- name: Step 4, boot the installer
  nixos_vm_lifecycle: {step: boot, progress_path: "{{ path }}", lines: "{{ lines }}", gate: "{{ gate }}"}
  tags: boot
"""


@pytest.mark.parametrize("how", ["import_role", "include_role"])
def test_a_role_that_is_imported_or_included(tmp_path, how):
    """The step is known from the module's option, however the role's tasks got into the play."""
    run = started(tmp_path, {"web1": [], "web2": HOSTS["web22"]}, ANSIBLE_ROLES_PATH=str(tmp_path / "roles"))
    run.playbook.write_text(LIFECYCLE.replace("HOW", how))
    library, tasks = tmp_path / "library", tmp_path / "roles/nixos_vm/tasks"
    for directory in (library, tasks):
        directory.mkdir(parents=True)
    (library / "nixos_vm_lifecycle").write_text((HERE / "library/proxmox_iso").read_text())
    (library / "nixos_vm_lifecycle").chmod(0o755)
    run.environment["ANSIBLE_LIBRARY"] = str(library)
    (tasks / "main.yml").write_text(ROLE)
    (tasks / "steps.yml").write_text(STEPS)
    path = "{{ lookup('ansible.builtin.env', 'NIXOS_VM_PROGRESS_DIR') ~ '/' ~ inventory_hostname }}"
    (tmp_path / "gate.no").touch()
    run.command += ["-e", json.dumps({"path": path, "gate": str(run.gate)})]
    terminal = run.on_terminal()
    try:
        # Before the module reports anything the task's name is shown, without its number.
        terminal.shows(r"\n  web1  4/6 boot  boot the installer +\d:\d\d\n")
        terminal.shows(r"\n  web2  4/6 boot  waiting: connection \[2J refused +\d:\d\d")
        assert "Take the steps" not in "".join(line for line in terminal.screen().split("\n") if line.startswith("  "))
    finally:
        code, screen = terminal.end()
    assert code == 0, screen


def test_other_playbooks_are_not_warned(tmp_path):
    """With the project's ansible.cfg, a playbook that does not use the role."""
    playbook = tmp_path / "other.yml"
    playbook.write_text("- {hosts: localhost, gather_facts: false, tasks: [{ansible.builtin.debug: {msg: hello}}]}")
    done = subprocess.run(
        ["ansible-playbook", str(playbook), "-i", "localhost,"], cwd=PROJECT, env=environment(), capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0 and "hello" in done.stdout, done.stdout
    assert "callback" not in (done.stdout + done.stderr).lower(), done.stdout + done.stderr


def test_the_role_tells_its_modules_where_only_when_it_is_on(lab, tmp_path):
    inventory = tmp_path / "inventory"
    inventory.mkdir()
    (inventory / "group_vars").symlink_to(PROJECT / "testing/demo/inventory/group_vars")
    host = {"ansible_host": "127.77.0.51", "ansible_port": 2222, "nixos_vm_ip": "10.77.0.51/24", "nixos_vm_name": "ab"}
    host |= {"nixos_vm_flake": f"{PROJECT}/testing/demo/flake#ab", "nixos_vm_tools_path": f"{PROJECT}/testing/stand-in"}
    (inventory / "hosts.yml").write_text(json.dumps({"nixos_vms": {"hosts": {"a/b": host}}}))
    for mode, path in [("plain", r'"\S+/nixos-vm-progress/a_b"'), ("off", "null")]:
        done = subprocess.run(
            ["ansible-playbook", "provision.yml", "-i", str(inventory), "-vvv", "--tags", "upload", "-D"],
            cwd=PROJECT,
            # Ansible 2.21 shows the modules' options only when it is told to.
            env=environment(NIXOS_PROXMOX_DEMO_DIR=str(lab.path), NIXOS_VM_PROGRESS=mode, ANSIBLE_INJECT_INVOCATION="1"),
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        found = set(re.findall(r'"progress_path": (\S+?),?\n', done.stdout))
        assert len(found) == 1 and re.fullmatch(path, found.pop()), done.stdout
