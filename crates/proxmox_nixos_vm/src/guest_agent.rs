//! What the guest says about itself through its agent.

use std::net::IpAddr;
use std::time::Duration;

use ansible_module::Failure;
use deadline::Deadline;
use pve_client::Error as ApiError;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::config::nic::Nic;
use crate::context::{Context, failed};
use crate::error::Error;
use crate::state::State;

/// The longest that the agent is waited for, over all questions. PVE itself waits some seconds for one that is silent.
const LIMIT: Duration = Duration::from_secs(10);
/// The pause between two questions for an address.
const PAUSE: Duration = Duration::from_secs(1);

/// The NIC whose address is the VM's: the one that cloud-init's `ipconfig0` configures.
const NIC: &str = "net0";

/// The guest's hostname, system and addresses; nothing when no agent answers, which is not a failure.
pub async fn facts(context: &Context<'_>, vm: &State) -> Option<Value> {
    if !vm.running() || !is_configured(vm) {
        return None;
    }
    let deadline = &context.deadline.shorter(LIMIT);
    let interfaces = ask(context, vm, deadline, "network-get-interfaces")
        .await
        .ok()?;
    Some(described(context, vm, deadline, &interfaces).await)
}

/// The same, waiting until the guest has an IPv4 address on its NIC [`NIC`].
///
/// # Errors
/// When the deadline passes first, and at once when no waiting would help: the VM is stopped, has no such NIC or no
/// agent, or the caller may not ask it.
pub async fn with_address(context: &Context<'_>, vm: &State) -> Result<Value, Failure> {
    let object = vm.object();
    let Some(mac) = mac(vm) else {
        return Err(Error::NoNic { object, nic: NIC }.into());
    };
    if !vm.running() {
        return Err(Error::not_running(vm).into());
    }
    if !is_configured(vm) {
        return Err(Error::NoAgent { object }.into());
    }
    context.report_step("wait for an address", &object);
    let since = Instant::now();
    loop {
        let last = match ask(context, vm, context.deadline, "network-get-interfaces").await {
            Ok(interfaces) if address_of(&interfaces, &mac).is_some() => {
                let limit = context.deadline.shorter(LIMIT);
                return Ok(described(context, vm, &limit, &interfaces).await);
            }
            Ok(interfaces) => format!("it has {}", what_it_has(&interfaces)),
            Err(error) if may_pass(&error) => error.pve_message().unwrap_or_default().to_owned(),
            Err(ApiError::Expired { last, .. }) => last.unwrap_or_else(|| "no answer".into()),
            Err(error) => return Err(failed("ask the guest agent of", &object)(error)),
        };
        if !context.deadline.sleep(PAUSE).await {
            return Err(never_told(context, &object, &mac, since.elapsed(), &last));
        }
    }
}

fn never_told(
    context: &Context<'_>,
    object: &str,
    mac: &str,
    waited: Duration,
    last: &str,
) -> Failure {
    let what = format!(
        "the guest agent of {object} to tell an IPv4 address of {NIC} ({mac}); last: {last}"
    );
    Failure::from(context.deadline.expired_error(what, waited))
        .object(object)
        .hint(
            "the guest has to run the QEMU guest agent (NixOS: services.qemuGuest.enable = true) and to get an address \
             by DHCP on that card; its console shows both",
        )
}

/// Whether the agent may answer later: it is not up yet, is slow, or talks with somebody else.
fn may_pass(error: &ApiError) -> bool {
    error.pve_message().is_some_and(passes)
}

fn passes(text: &str) -> bool {
    text.contains("guest agent is not running") || text.contains("timeout")
}

/// What PVE's option turns on.
fn is_configured(vm: &State) -> bool {
    vm.config.get("agent").is_some_and(|text| is_enabled(text))
}

fn mac(vm: &State) -> Option<String> {
    let text = vm.config.get(NIC)?.as_str();
    Nic::parse(NIC, &text.into()).ok()?.mac
}

async fn described(
    context: &Context<'_>,
    vm: &State,
    deadline: &Deadline,
    interfaces: &Value,
) -> Value {
    let os = ask(context, vm, deadline, "get-osinfo").await;
    let host = ask(context, vm, deadline, "get-host-name").await;
    let mut facts = shaped(
        interfaces,
        &os.unwrap_or_default(),
        &host.unwrap_or_default(),
    );
    facts["address"] = mac(vm)
        .and_then(|mac| address_of(interfaces, &mac))
        .map_or(Value::Null, Value::String);
    facts
}

async fn ask(
    context: &Context<'_>,
    vm: &State,
    deadline: &Deadline,
    question: &str,
) -> Result<Value, ApiError> {
    let path = format!("/nodes/{}/qemu/{}/agent/{question}", vm.node, vm.vmid);
    let answer = context.client.get(&path, &[], deadline).await?;
    Ok(answer.get("result").cloned().unwrap_or_default())
}

/// Whether the option `agent` turns it on: `1`, or `enabled=1` among others.
fn is_enabled(text: &str) -> bool {
    pve_client::property::PropertyString::parse(text, Some("enabled"))
        .ok()
        .and_then(|parts| pve_client::property::parse_bool(parts.get("enabled")?))
        == Some(true)
}

/// The first IPv4 address, beyond loopback and link, of the card with this MAC address. What the guest has built upon the
/// card, such as a bridge, has the same MAC address; what it has made up (containers' networks, tunnels) has not.
fn address_of(interfaces: &Value, mac: &str) -> Option<String> {
    let cards = interfaces.as_array().into_iter().flatten();
    let same = cards.filter(|card| {
        card["hardware-address"]
            .as_str()
            .is_some_and(|own| own.eq_ignore_ascii_case(mac))
    });
    same.flat_map(|card| card["ip-addresses"].as_array().into_iter().flatten())
        .filter_map(|address| address["ip-address"].as_str())
        .find(|ip| matches!(ip.parse(), Ok(IpAddr::V4(_))) && !is_local(ip))
        .map(str::to_owned)
}

/// The addresses that there are, for the error.
fn what_it_has(interfaces: &Value) -> String {
    let facts = shaped(interfaces, &Value::Null, &Value::Null);
    let cards: Vec<String> = facts["interfaces"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|card| {
            let own = card["addresses"].as_array().into_iter().flatten();
            let own: Vec<&str> = own.filter_map(Value::as_str).collect();
            let name = card["name"].as_str().unwrap_or("a card");
            let none = if own.is_empty() { " none" } else { "" };
            format!("{name}:{none} {}", own.join(" "))
                .trim_end()
                .to_owned()
        })
        .collect();
    if cards.is_empty() {
        "no cards".into()
    } else {
        cards.join(", ")
    }
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
        Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_link_local(),
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unicast_link_local(),
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

    #[test]
    fn what_waiting_helps() {
        for (text, helps) in [
            ("QEMU guest agent is not running", true),
            ("VM 101 qga command 'guest-ping' failed - got timeout", true),
            // One client at a time: a backup may be talking with the agent.
            (
                "unable to connect to VM 101 qga socket - timeout after 31 retries",
                true,
            ),
            ("No QEMU guest agent configured", false),
            ("VM 101 is not running", false),
        ] {
            assert_eq!(passes(text), helps, "{text}");
        }
    }

    #[test]
    fn the_address_is_that_of_the_vms_own_card() {
        let address =
            |kind: &str, ip: &str| json!({"ip-address": ip, "ip-address-type": kind, "prefix": 24});
        let v4 = |ip| address("ipv4", ip);
        let v6 = |ip| address("ipv6", ip);
        let card = |name: &str, mac: &str, all: Value| json!({"name": name, "hardware-address": mac, "ip-addresses": all});
        let (own, other) = ("bc:24:11:00:00:01", "02:42:ac:00:00:01");
        let lo = card(
            "lo",
            "00:00:00:00:00:00",
            json!([v4("127.0.0.1"), v6("::1")]),
        );
        let docker = card("docker0", other, json!([v4("172.17.0.1")]));
        let told = |cards: Value| address_of(&cards, "BC:24:11:00:00:01");
        // What there is before DHCP has answered, or instead of it.
        let early = json!([lo, docker, card("ens18", own, json!([v6("fe80::1"), v6("2001:db8::1"), v4("169.254.1.1")])), {"name": "sit0"}]);
        assert_eq!(told(early.clone()), None);
        assert_eq!(
            what_it_has(&early),
            "lo: 127.0.0.1/24 ::1/24, docker0: 172.17.0.1/24, ens18: fe80::1/24 2001:db8::1/24 169.254.1.1/24, sit0: none"
        );
        assert_eq!(
            (told(Value::Null), what_it_has(&Value::Null)),
            (None, "no cards".into())
        );
        let late = json!([
            lo,
            docker,
            card(
                "ens18",
                own,
                json!([v6("fe80::1"), v4("192.0.2.11"), v4("192.0.2.12")])
            )
        ]);
        assert_eq!(told(late), Some("192.0.2.11".into()));
        let bridged = json!([
            card("ens18", own, json!([])),
            card("br0", own, json!([v4("192.0.2.11")]))
        ]);
        assert_eq!(told(bridged), Some("192.0.2.11".into()));
    }
}
