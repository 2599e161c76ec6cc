# Copyright the nixos-proxmox authors
# SPDX-License-Identifier: MIT OR Apache-2.0
"""The program of a module for the computer that it runs on."""

from __future__ import annotations

import platform
from pathlib import Path

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import module_loader

# The machines that there are programs for; written by `cargo xtask dist`.
MACHINES = ["x86_64"]
PROGRAMS = Path(__file__).parents[2] / "libexec"


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
        if machine not in MACHINES:
            raise AnsibleActionFail(
                f"{name} is not in this collection for {machine}, only for {', '.join(sorted(MACHINES))}: "
                "install the collection that was built for it, or run the task on another computer (delegate_to)"
            )
        # Not in plugins/modules, where ansible-doc and ansible-test take every file for text. This process runs one task only.
        module_loader.add_directory(str(PROGRAMS / machine))
        return self._execute_module(
            module_name=f"nixos_proxmox_pve_{name}",
            task_vars=task_vars,
            wrap_async=self._task.async_val,
        )
