//! What a host of the play claims for its machine, by its variables.

use std::net::IpAddr;

use nixos_vm_report::host_plan::Claim;
use pve_schema::syntax::is_any_mac;
use serde_json::Value;

use crate::claims;
use crate::context::Context;
use crate::error::Error;

/// Compare what this host claims with what the play's other hosts do.
///
/// # Errors
/// Kind `claimed`, naming both hosts and the variable; kind `file` if the claims cannot be read or written.
pub fn check(context: &Context<'_>, cluster: &str) -> Result<(), Error> {
    claims::claim(&context.options.host, &claimed(context, cluster))
}

/// What no other host of the play may claim.
pub fn claimed(context: &Context<'_>, cluster: &str) -> Vec<Claim> {
    let settings = context.settings();
    let mut claims = Vec::new();
    let mut claim = |what: String, key: String, variable: &str| {
        claims.push(Claim {
            host: context.options.host.clone(),
            what,
            key: key.to_lowercase(),
            variable: format!("nixos_vm_{variable}"),
        });
    };
    if let Some(vmid) = settings.vmid {
        claim(
            format!("the VMID {vmid}"),
            format!("vmid {cluster} {vmid}"),
            "vmid",
        );
    }
    if let Some(name) = settings.name.as_deref().filter(|name| !name.is_empty()) {
        claim(
            format!("the VM name {name}"),
            format!("name {cluster} {name}"),
            "name",
        );
    }
    for ip in settings.fixed_addresses() {
        if ip.parse::<IpAddr>().is_ok() {
            claim(
                format!("the address {ip}"),
                format!("ip {cluster} {ip}"),
                "ip",
            );
        }
    }
    if let Some(address) = settings.given_address() {
        let port = settings.ssh_port;
        // The same address is another machine's behind another jump host.
        let jump = settings.jump_args();
        let jump = jump.get("jump_host").and_then(Value::as_str);
        let behind = jump.map_or_else(String::new, |jump| format!(" behind {jump}"));
        claim(
            format!("the address {address} port {port}{behind}"),
            format!("ssh {address} {port}{behind}"),
            "address",
        );
    }
    for (nic, value) in settings.net.iter().flatten() {
        if let Some(mac) = mac(value) {
            claim(
                format!("the MAC {mac} ({nic})"),
                format!("mac {cluster} {mac}"),
                "net",
            );
        }
    }
    claims
}

/// The MAC address that a NIC is given.
fn mac(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => text
            .split([',', '='])
            .map(str::trim)
            .find(|part| is_any_mac(part))
            .map(str::to_uppercase),
        Value::Object(nic) => nic
            .values()
            .filter_map(Value::as_str)
            .find(|text| is_any_mac(text))
            .map(str::to_uppercase),
        _ => None,
    }
}
