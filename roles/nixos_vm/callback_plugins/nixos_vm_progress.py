# Copyright the nixos-proxmox authors
# SPDX-License-Identifier: MIT OR Apache-2.0
"""What the long tasks of the role nixos_vm are doing, while they do it."""

from __future__ import annotations

DOCUMENTATION = """
name: nixos_vm_progress
type: notification
author: The nixos-proxmox authors (@nixos-proxmox)
short_description: Shows what long tasks of the role nixos_vm are doing
description:
  - Shows one line for each host that is busy with the role - its step, what that is doing (bytes and rate of an upload, the
    phase of an installation, why a machine is still waited for), and for how long.
  - On a terminal these lines stay below the normal output. Elsewhere they are written to standard error, a line for a host when
    something began and then every O(interval) seconds. Standard output is that of the stdout callback in any case.
  - The modules write what they do to files in Ansible's own temporary directory, which is removed with it. The environment variable
    E(NIXOS_VM_PROGRESS_DIR) names that directory to the role; another play gives a module
    C(progress_path) with the file of its host in it, which is C(inventory_hostname) with V(/) replaced by V(_).
  - A failure in here never fails a play.
requirements:
  - enabled in the configuration (C(callbacks_enabled = nixos_vm_progress))
options:
  mode:
    description:
      - V(auto) is V(live) where standard output is a terminal, and V(plain) elsewhere.
      - V(live) keeps the lines up to date in place.
      - V(plain) writes lines to standard error.
      - V(off) shows nothing.
    type: str
    default: auto
    choices: [auto, live, plain, "off"]
    env: [{name: NIXOS_VM_PROGRESS}]
    ini: [{section: callback_nixos_vm_progress, key: mode}]
  interval:
    description: With V(plain), the seconds after which a host whose task does the same as before gets another line.
    type: int
    default: 15
    env: [{name: NIXOS_VM_PROGRESS_INTERVAL}]
    ini: [{section: callback_nixos_vm_progress, key: interval}]
"""

import atexit
import functools
import json
import os
import re
import shutil
import sys
import textwrap
import threading
import time

from ansible import constants as C
from ansible.plugins.callback import CallbackBase

MODULES = {"nixos_vm_lifecycle", "proxmox_iso", "proxmox_nixos_vm", "cloudinit_drive", "nixos_anywhere_install", "proxmox_snapshot", "nixos_deploy"}
STEPS = ["image", "upload", "provision", "boot", "install", "finalize"]
# Seconds: between looks, before a task is shown at all, between two lines of a host (plain).
LOOK = 0.25
QUICK = 1.0
APART = 2.0
# Lines at one look: on a terminal, and elsewhere. More hosts than that are counted.
ROWS = 12
LINES = 5
# Lines of one host on a terminal: the reason of a wait is what people look for, so it is wrapped instead of cut off.
REASON_ROWS = 4
WORDS = {
    "lock": "waiting for another task at the same image",
    "hash": "reading the image, to know its checksum",
    "download": "downloading",
    "upload": "uploading",
    "unpack": "unpacking the image, to know its size and checksum",
    "node-download": "the node downloads",
    "compare": "the node compares the checksum",
    "verify": "looking at what arrived",
}


def clock(seconds):
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def size(count):
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1000 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024


def clean(text):
    """One line without anything that a terminal would obey: parts of it come from guests."""
    return "".join(c if c.isprintable() else " " for c in str(text)).strip()


class Busy:
    """A host and the task that it is in."""

    def __init__(self, task, path):
        self.since = time.monotonic()
        step = step_of(task)
        self.step = f"{STEPS.index(step) + 1}/6 {step}" if step else ""
        # "Step 4, boot the installer": the number is shown already.
        self.name = re.sub(r"^Step \d, ", "", clean(task.name or task.action))
        self.path = path
        self.offset = os.path.getsize(path) if os.path.exists(path) else 0
        self.rest = b""
        self.doing = None
        self.doing_since = self.since
        self.transfer = ""
        self.waiting = False
        self.told = None
        self.told_at = 0.0

    def read(self):
        """Take in what the module has written since the last look; what is not understood is left out."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self.offset)
                data = file.read(1 << 20)
        except OSError:
            return
        self.offset += len(data)
        *lines, self.rest = (self.rest + data).split(b"\n")
        self.rest = self.rest[-65536:]
        for line in lines:
            try:
                self.take(json.loads(line))
            except (ValueError, TypeError, AttributeError, KeyError):
                continue

    def take(self, event):
        kind, step = event["event"], event.get("step")
        if kind == "step":
            words = WORDS.get(step, step)
            self.begin(f"{words} {event['object']}" if event.get("object") else words)
        elif kind == "transfer":
            self.transfer = transfer(event)
        elif kind == "phase":
            self.begin(event["phase"])
        elif kind == "running" and event.get("phase"):
            self.begin(step or event["phase"])
        elif kind == "phase_ended":
            self.begin(None)
        elif kind == "waiting":
            self.begin(f"waiting: {event['reason']}", waiting=True)

    def begin(self, doing, waiting=False):
        doing = clean(doing) if doing else None
        if doing != self.doing:
            self.doing, self.doing_since, self.transfer, self.waiting = doing, time.monotonic(), "", waiting

    def describe(self):
        now = time.monotonic()
        parts = [self.step, self.transfer, self.doing or self.name]
        text = "  ".join(part for part in parts if part)
        if self.doing and now - self.doing_since < now - self.since - 1:
            text += f"  {clock(now - self.doing_since)}"
        return text, clock(now - self.since)


def step_of(task):
    """The one of the six steps that a task takes: by its option, or by its tag; "" for another task."""
    option = (getattr(task, "args", None) or {}).get("step")
    if str(task.action).rpartition(".")[2] == "nixos_vm_lifecycle" and isinstance(option, str):
        return option if option in STEPS else ""
    tags = getattr(task, "tags", None) or []
    return next((step for step in STEPS if step in tags), "")


def transfer(event):
    sent, whole, rate = event["sent"], event.get("size"), event.get("rate")
    text = f"{size(sent)} of {size(whole)}" if whole else size(sent)
    if whole:
        percent = min(100, sent * 100 // whole)
        text = f"[{'#' * (percent // 10):<10}] {percent:3}%  {text}"
    return f"{text}  {size(rate)}/s" if rate else text


def harmless(method):
    """No error in here is one of the play's: the plugin ends, the play goes on."""

    @functools.wraps(method)
    def wrapper(self, *args, **kwargs):
        try:
            return method(self, *args, **kwargs)
        except Exception as error:
            self.give_up(error)

    return wrapper


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "nixos_vm_progress"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.process = os.getpid()
        self.guard = threading.RLock()
        self.busy = {}
        self.drawn = 0
        self.mode = "off"
        self.thread = None
        self.ended = threading.Event()
        self.original = None

    @harmless
    def set_options(self, *args, **kwargs):
        super().set_options(*args, **kwargs)
        self.mode = self.get_option("mode")
        self.interval = max(1, self.get_option("interval"))
        if self.mode == "auto":
            terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
            self.mode = "live" if terminal else "plain"
        if self.mode == "off":
            return
        # Ansible removes what is in there when it ends. The modules make the files, for their user only.
        self.directory = os.path.join(C.DEFAULT_LOCAL_TMP, "nixos-vm-progress")
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        os.environ["NIXOS_VM_PROGRESS_DIR"] = self.directory
        atexit.register(self.end)

    # What Ansible tells.

    @harmless
    def v2_runner_on_start(self, host, task):
        if self.mode == "off" or self.ended.is_set() or not self.ours(task):
            return
        name = host.get_name()
        with self.guard:
            self.busy[name] = Busy(task, os.path.join(self.directory, name.replace("/", "_")))
        if self.thread is None:
            if self.mode == "live":
                self.stay_below_the_output()
            self.thread = threading.Thread(target=self.watch, name=self.CALLBACK_NAME, daemon=True)
            self.thread.start()

    @harmless
    def host_done(self, result, *args, **kwargs):
        host = getattr(result, "host", None) or result._host
        with self.guard:
            self.busy.pop(host.get_name(), None)

    def v2_runner_on_ok(self, result, *args, **kwargs):
        self.host_done(result)

    def v2_runner_on_failed(self, result, *args, **kwargs):
        self.host_done(result)

    def v2_runner_on_skipped(self, result, *args, **kwargs):
        self.host_done(result)

    def v2_runner_on_unreachable(self, result, *args, **kwargs):
        self.host_done(result)

    @harmless
    def v2_playbook_on_stats(self, stats):
        with self.guard:
            self.busy.clear()
            self.erase()

    @staticmethod
    def ours(task):
        # Not by the role: Ansible reports no end of the tasks that include others.
        return str(task.action).rpartition(".")[2] in MODULES

    # What is shown.

    @harmless
    def watch(self):
        while not self.ended.wait(LOOK):
            with self.guard:
                for busy in self.busy.values():
                    busy.read()
                self.draw() if self.mode == "live" else self.tell()

    def shown(self):
        now = time.monotonic()
        return {name: busy for name, busy in sorted(self.busy.items()) if now - busy.since >= QUICK}

    def draw(self):
        columns, lines = os.get_terminal_size(sys.stdout.fileno())
        # Serial consoles do not know their size.
        columns, lines = columns or 80, lines or 24
        shown = self.shown()
        most = max(1, min(ROWS, lines // 2))
        rows = []
        wide = max((len(name) for name in shown), default=0)
        hosts = 0
        for name, busy in shown.items():
            own = self.rows(f"  {clean(name):<{wide}}  ", busy, columns)[:most]
            if len(rows) + len(own) > most:
                break
            rows += own
            hosts += 1
        if len(shown) > hosts:
            rows.append(f"  and {len(shown) - hosts} more hosts"[: columns - 1])
        text = self.up() + "".join(f"{row}\033[K\n" for row in rows) + ("\033[J" if rows or self.drawn else "")
        self.drawn = len(rows)
        self.write(sys.stdout.fileno(), text)

    @staticmethod
    def rows(start, busy, columns):
        """The lines of one host: one, or as many as the reason of a wait needs."""
        text, since = busy.describe()
        room = max(1, columns - len(since) - 2)
        lines = [(start + text)[:room]]
        if busy.waiting and len(start + text) > room:
            indent = " " * min(len(start), room // 2)
            lines = textwrap.wrap(start.strip() + "  " + text, room, initial_indent="  ", subsequent_indent=indent)[:REASON_ROWS]
        return [f"{lines[0]:<{room}} {since}", *lines[1:]]

    def up(self):
        return f"\r\033[{self.drawn}A" if self.drawn else ""

    def erase(self):
        if self.drawn:
            self.write(sys.stdout.fileno(), self.up() + "\033[J")
            self.drawn = 0

    def tell(self):
        now = time.monotonic()
        told = 0
        for name, busy in self.shown().items():
            text, since = busy.describe()
            news = busy.doing != busy.told or not busy.told_at
            if now - busy.told_at < (APART if news else self.interval) and busy.told_at:
                continue
            if told == LINES:
                return
            told += 1
            busy.told, busy.told_at = busy.doing, now
            self.write(sys.stderr.fileno(), f"  {clean(name)}  {text}  ({since})\n")

    @staticmethod
    def write(descriptor, text):
        # Past Python's buffers: a worker that is forked meanwhile must not inherit their locks.
        data = text.encode(errors="replace")
        while data:
            data = data[os.write(descriptor, data) :]

    def stay_below_the_output(self):
        """Take the lines away before anything else is displayed; the next look draws them again."""
        self.original = self._display.display

        @functools.wraps(self.original)
        def display(*args, **kwargs):
            # In a forked worker display() only hands over to this process, and the lock may be held for ever.
            if os.getpid() != self.process:
                return self.original(*args, **kwargs)
            with self.guard:
                try:
                    self.erase()
                except Exception as error:
                    self.give_up(error)
                self.original(*args, **kwargs)
                sys.stdout.flush()

        self._display.display = display

    def end(self):
        if os.getpid() != self.process:
            return
        self.ended.set()
        with self.guard:
            self.busy.clear()
            try:
                self.erase()
            except Exception:
                self.drawn = 0
        if self.original is not None and "display" in vars(self._display):
            del self._display.display
        shutil.rmtree(getattr(self, "directory", ""), ignore_errors=True)

    def give_up(self, error):
        self.mode = "off"
        self.ended.set()
        self.busy.clear()
        self.drawn = 0
        self._display.vvv(f"{self.CALLBACK_NAME}: no progress is shown any more: {error!r}")
