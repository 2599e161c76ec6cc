# Copyright the nixos-proxmox authors
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Copied by `cargo xtask dist` under the name of each module."""

from __future__ import annotations

from ansible_collections.nixos_proxmox.pve.plugins.plugin_utils.architecture import ByArchitecture


class ActionModule(ByArchitecture):
    pass
