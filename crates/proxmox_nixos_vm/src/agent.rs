//! What the guest says about itself through its agent.

use std::time::Duration;

use deadline::Deadline;
use serde_json::{Map, Value, json};

use crate::site::Site;
use crate::state::State;

/// The longest that the agent is waited for, over all questions. PVE itself waits some seconds for one that is silent.
const LIMIT: Duration = Duration::from_secs(10);

/// The guest's hostname, system and addresses; nothing when no agent answers, which is no failure.
pub async fn facts(site: &Site<'_>, vm: &State) -> Option<Value> {
    let configured = vm.config.get("agent").is_some_and(|text| is_enabled(text));
    if !vm.running() || !configured {
        return None;
    }
    let deadline = &site.deadline.shorter(LIMIT);
    let interfaces = ask(site, vm, deadline, "network-get-interfaces").await?;
    let os = ask(site, vm, deadline, "get-osinfo").await;
    let host = ask(site, vm, deadline, "get-host-name").await;
    Some(shaped(
        &interfaces,
        &os.unwrap_or_default(),
        &host.unwrap_or_default(),
    ))
}

async fn ask(site: &Site<'_>, vm: &State, deadline: &Deadline, question: &str) -> Option<Value> {
    let path = format!("/nodes/{}/qemu/{}/agent/{question}", vm.node, vm.vmid);
    let answer = site.client.get(&path, &[], deadline).await.ok()?;
    answer.get("result").cloned()
}

/// Whether the option `agent` turns it on: `1`, or `enabled=1` among others.
fn is_enabled(text: &str) -> bool {
    pve_client::property::PropertyString::parse(text, Some("enabled"))
        .ok()
        .and_then(|parts| pve_client::property::parse_bool(parts.get("enabled")?))
        == Some(true)
}

fn shaped(interfaces: &Value, os: &Value, host: &Value) -> Value {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let mut addresses = Vec::new();
    let cards: Vec<Value> = interfaces
        .as_array()
        .into_iter()
        .flatten()
        .map(|card| {
            let all = card.get("ip-addresses").and_then(Value::as_array);
            let own: Vec<String> = all
                .into_iter()
                .flatten()
                .filter_map(|address| {
                    let ip = text(address, "ip-address")?;
                    let prefix = address.get("prefix").and_then(Value::as_u64);
                    let named = text(card, "name").is_some_and(|name| name == "lo");
                    if !named && !is_local(&ip) {
                        addresses.push(ip.clone());
                    }
                    Some(prefix.map_or_else(|| ip.clone(), |prefix| format!("{ip}/{prefix}")))
                })
                .collect();
            json!({"name": text(card, "name"), "mac": text(card, "hardware-address"), "addresses": own})
        })
        .collect();
    let os: Map<String, Value> = os
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.replace('-', "_"), value.clone()))
        .collect();
    json!({"hostname": text(host, "host-name"), "os": os, "interfaces": cards, "addresses": addresses})
}

/// Whether an address means nothing beyond its link.
fn is_local(address: &str) -> bool {
    match address.parse() {
        Ok(std::net::IpAddr::V4(ip)) => ip.is_loopback() || ip.is_link_local(),
        Ok(std::net::IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unicast_link_local(),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_agent_says() {
        let interfaces = json!([
            {"name": "lo", "hardware-address": "00:00:00:00:00:00", "ip-addresses": [{"ip-address": "127.0.0.1", "ip-address-type": "ipv4", "prefix": 8}]},
            {"name": "ens18", "hardware-address": "bc:24:11:00:00:01", "ip-addresses": [
                {"ip-address": "192.0.2.11", "ip-address-type": "ipv4", "prefix": 24},
                {"ip-address": "fe80::1", "ip-address-type": "ipv6", "prefix": 64},
                {"ip-address": "2001:db8::11", "ip-address-type": "ipv6", "prefix": 64}]},
            {"name": "ens19"},
        ]);
        let os = json!({"id": "nixos", "version-id": "25.05"});
        assert_eq!(
            shaped(&interfaces, &os, &json!({"host-name": "web1"})),
            json!({
                "hostname": "web1", "os": {"id": "nixos", "version_id": "25.05"}, "addresses": ["192.0.2.11", "2001:db8::11"],
                "interfaces": [
                    {"name": "lo", "mac": "00:00:00:00:00:00", "addresses": ["127.0.0.1/8"]},
                    {"name": "ens18", "mac": "bc:24:11:00:00:01", "addresses": ["192.0.2.11/24", "fe80::1/64", "2001:db8::11/64"]},
                    {"name": "ens19", "mac": null, "addresses": []},
                ],
            })
        );
        assert!(is_enabled("1") && is_enabled("enabled=1,type=virtio") && !is_enabled("0"));
    }
}
