//! What the guest says about itself through its agent.

use std::net::IpAddr;
use std::time::Duration;

use ansible_module::Failure;
use deadline::Deadline;
use pve_client::Error as ApiError;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::agent_addresses::{of_guest, of_nic, pick};
use crate::config::nic::Nic;
use crate::context::{Context, failed};
use crate::error::Error;
use crate::options::AddressFamily;
use crate::state::State;

/// The longest that the agent is waited for, over all questions. PVE itself waits some seconds for one that is silent.
const LIMIT: Duration = Duration::from_secs(10);
/// The pause between two questions for an address.
const PAUSE: Duration = Duration::from_secs(1);
/// How long an IPv4 address is waited for, once a guest that may have either has an IPv6 address: router advertisements are faster
/// than DHCP, and the address of a guest must not depend on it.
const OTHER_FAMILY: Duration = Duration::from_secs(10);

/// The NIC whose address is the VM's: the one that cloud-init's `ipconfig0` configures.
const NIC: &str = "net0";

/// The guest's hostname, system and addresses; nothing when no agent answers, which is not a failure.
pub async fn facts(context: &Context<'_>, vm: &State, family: AddressFamily) -> Option<Value> {
    if !vm.running() || !is_configured(vm) {
        return None;
    }
    let deadline = &context.deadline.shorter(LIMIT);
    let interfaces = ask(context, vm, deadline, "network-get-interfaces")
        .await
        .ok()?;
    Some(described(context, vm, deadline, &interfaces, family).await)
}

/// The same, waiting until the guest has an address of the family on its NIC [`NIC`].
///
/// # Errors
/// When the deadline passes first, and at once when no waiting would help: the VM is stopped, has no such NIC or no
/// agent, or the caller may not ask it.
pub async fn with_address(
    context: &Context<'_>,
    vm: &State,
    family: AddressFamily,
) -> Result<Value, Failure> {
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
    let mut first_seen = None;
    loop {
        let mut other_family = false;
        let last = match ask(context, vm, context.deadline, "network-get-interfaces").await {
            Ok(interfaces) => {
                let addresses = of_nic(&interfaces, &mac);
                if let Some(address) = pick(&addresses, family) {
                    let seen = *first_seen.get_or_insert_with(Instant::now);
                    // The last question of a task that has less time is the one that counts.
                    let may_change = family == AddressFamily::Any && address.is_ipv6();
                    let patience = OTHER_FAMILY.min(context.deadline.remaining() / 2);
                    if !may_change || seen.elapsed() >= patience {
                        let limit = context.deadline.shorter(LIMIT);
                        return Ok(described(context, vm, &limit, &interfaces, family).await);
                    }
                }
                other_family = !addresses.is_empty();
                format!("it has {}", what_it_has(&interfaces))
            }
            Err(error) if may_pass(&error) => error.pve_message().unwrap_or_default().to_owned(),
            Err(ApiError::Expired { last, .. }) => last.unwrap_or_else(|| "no answer".into()),
            Err(error) => return Err(failed("ask the guest agent of", &object)(error)),
        };
        if !context.deadline.sleep(PAUSE).await {
            let wanted = format!("{} of {NIC} ({mac})", family.named());
            let what = format!("the guest agent of {object} to report {wanted}; last: {last}");
            let expired = context.deadline.expired_error(what, since.elapsed());
            let hint = if other_family {
                OTHER_FAMILY_HINT
            } else {
                NO_ADDRESS_HINT
            };
            return Err(Failure::from(expired).object(object).hint(hint));
        }
    }
}

const OTHER_FAMILY_HINT: &str = "the NIC has addresses of the other family only; set address_family to take them, or give it an address of this family";
const NO_ADDRESS_HINT: &str = "the guest has to run the QEMU guest agent (NixOS: services.qemuGuest.enable = true) and to get an address \
                               on that NIC, by DHCP or router advertisements for example; its console shows both";

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
    family: AddressFamily,
) -> Value {
    let os = ask(context, vm, deadline, "get-osinfo").await;
    let host = ask(context, vm, deadline, "get-host-name").await;
    let mac = mac(vm).unwrap_or_default();
    let mut facts = shaped(
        interfaces,
        &os.unwrap_or_default(),
        &host.unwrap_or_default(),
        &mac,
    );
    let own = of_nic(interfaces, &mac);
    let texts = |of: Option<IpAddr>| of.map(|ip| ip.to_string());
    facts["address"] = json!(texts(pick(&own, family)));
    facts["address_ipv4"] = json!(texts(pick(&own, AddressFamily::Ipv4)));
    facts["address_ipv6"] = json!(texts(pick(&own, AddressFamily::Ipv6)));
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
pub fn is_enabled(text: &str) -> bool {
    pve_client::property::PropertyString::parse(text, Some("enabled"))
        .ok()
        .and_then(|parts| pve_client::property::parse_bool(parts.get("enabled")?))
        == Some(true)
}

/// The addresses that there are, for the error.
fn what_it_has(interfaces: &Value) -> String {
    let facts = shaped(interfaces, &Value::Null, &Value::Null, "");
    let nics: Vec<String> = facts["interfaces"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|nic| {
            let own = nic["addresses"].as_array().into_iter().flatten();
            let own: Vec<&str> = own.filter_map(Value::as_str).collect();
            let name = nic["name"].as_str().unwrap_or("a NIC");
            let none = if own.is_empty() { " none" } else { "" };
            format!("{name}:{none} {}", own.join(" "))
                .trim_end()
                .to_owned()
        })
        .collect();
    if nics.is_empty() {
        "no NICs".into()
    } else {
        nics.join(", ")
    }
}

fn shaped(interfaces: &Value, os: &Value, host: &Value, mac: &str) -> Value {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let nics: Vec<Value> = interfaces
        .as_array()
        .into_iter()
        .flatten()
        .map(|nic| {
            let all = nic.get("ip-addresses").and_then(Value::as_array);
            let own: Vec<String> = all
                .into_iter()
                .flatten()
                .filter_map(|address| {
                    let ip = normal(text(address, "ip-address")?);
                    let prefix = address.get("prefix").and_then(Value::as_u64);
                    Some(prefix.map_or_else(|| ip.clone(), |prefix| format!("{ip}/{prefix}")))
                })
                .collect();
            json!({"name": text(nic, "name"), "mac": text(nic, "hardware-address"), "addresses": own})
        })
        .collect();
    let os: Map<String, Value> = os
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.replace('-', "_"), value.clone()))
        .collect();
    let addresses: Vec<String> = of_guest(interfaces, mac)
        .iter()
        .map(ToString::to_string)
        .collect();
    json!({"hostname": text(host, "host-name"), "os": os, "interfaces": nics, "addresses": addresses})
}

/// An address in its normal form, which is the same however the agent writes it.
fn normal(address: String) -> String {
    match address.parse::<IpAddr>() {
        Ok(ip) => ip.to_string(),
        Err(_) => address,
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
            shaped(&interfaces, &os, &json!({"host-name": "web1"}), ""),
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
    fn the_error_lists_what_there_is() {
        let nic = |name: &str, all: Value| json!({"name": name, "ip-addresses": all});
        let address = |ip: &str| json!({"ip-address": ip, "prefix": 64});
        let nics = json!([
            nic("lo", json!([address("::1")])),
            nic("ens18", json!([address("FE80:0::1"), address("2001:db8::1")])),
            {"name": "sit0"},
        ]);
        assert_eq!(
            what_it_has(&nics),
            "lo: ::1/64, ens18: fe80::1/64 2001:db8::1/64, sit0: none"
        );
        assert_eq!(what_it_has(&Value::Null), "no NICs");
    }
}
