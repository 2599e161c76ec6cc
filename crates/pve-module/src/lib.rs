//! pve-module
