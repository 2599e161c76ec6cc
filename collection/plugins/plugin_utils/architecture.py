# Copyright the nixos-proxmox authors
# SPDX-License-Identifier: MIT OR Apache-2.0
"""The program of a module for the computer that it runs on."""

from __future__ import annotations

import platform

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

# Machine to what its programs' names end in; written by `cargo xtask dist`.
SUFFIXES = {"x86_64": ""}


class ByArchitecture(ActionBase):
    """Runs the module of the action's own name."""

    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        machine = platform.machine()
        if self._connection.transport != "local":
            machine = (task_vars or {}).get("ansible_facts", {}).get("architecture", machine)
        machine = {"arm64": "aarch64", "amd64": "x86_64"}.get(machine, machine)
        name = self._task.action.rpartition(".")[2]
        if machine not in SUFFIXES:
            raise AnsibleActionFail(
                f"{name} is not in this collection for {machine}, only for {', '.join(sorted(SUFFIXES))}: "
                "install the collection that was built for it, or run the task on another computer (delegate_to)"
            )
        return self._execute_module(
            module_name=f"nixos_proxmox.pve.{name}{SUFFIXES[machine]}",
            task_vars=task_vars,
            wrap_async=self._task.async_val,
        )
