//! A VM's state as the lists and `status/current` show it.

use serde_json::{Value, json};

use super::config::Config;
use super::drive;
use crate::error::ApiError;
use crate::guest::Power;
use crate::host::Host;

/// An entry of the list of VMs.
pub fn summary(host: &Host, vmid: u32) -> Result<Value, ApiError> {
    let config = Config::load(host, vmid)?;
    let get = |name: &str| config.current.get(name);
    let number = |name: &str, default: u64| {
        get(name)
            .and_then(|value| value.parse().ok())
            .unwrap_or(default)
    };
    let memory = get("memory")
        .map_or("512", String::as_str)
        .trim_start_matches("current=")
        .parse::<u64>()
        .unwrap_or(512);
    let maxdisk = drive::boot_disk(&config.current)
        .and_then(|value| drive::size_of(&value))
        .unwrap_or(0);
    let mut value = json!({
        "vmid": vmid, "name": get("name").cloned().unwrap_or_else(|| format!("VM {vmid}")), "status": "stopped",
        "cpus": number("cores", 1) * number("sockets", 1), "maxmem": memory << 20, "maxdisk": maxdisk, "cpu": 0, "mem": 0,
        "memhost": 0, "disk": 0, "netin": 0, "netout": 0, "uptime": 0,
    });
    for name in ["tags", "lock"] {
        if let Some(text) = get(name) {
            value[name] = json!(text);
        }
    }
    if config.current.keys().any(|key| key.starts_with("serial")) {
        value["serial"] = json!(1);
    }
    if get("template").is_some_and(|flag| flag == "1") {
        value["template"] = json!(1);
    }
    if let Power::Running { pid, since, .. } = host.guests.power(vmid) {
        value["status"] = json!("running");
        value["pid"] = json!(pid);
        value["uptime"] = json!(since.elapsed().map_or(0, |time| time.as_secs()));
    }
    Ok(value)
}

/// `status/current`.
pub async fn current(host: &Host, vmid: u32) -> Result<Value, ApiError> {
    let config = Config::load(host, vmid)?;
    let mut value = summary(host, vmid)?;
    let managed = host.facts().ha || crate::ha::Ha::read(&host.dir).manages(vmid);
    value["ha"] = json!({"managed": u8::from(managed)});
    value["qmpstatus"] = json!("stopped");
    if super::options::agent_enabled(&config.current) {
        // Configured, not alive.
        value["agent"] = json!(1);
    }
    if let Power::Running { qmpstatus, .. } = host.guests.power(vmid) {
        let said = host.guest_facts(vmid).qmpstatus;
        value["qmpstatus"] = json!(said.unwrap_or(qmpstatus));
        let nics: serde_json::Map<String, Value> = config
            .current
            .keys()
            .filter_map(|key| key.strip_prefix("net")?.parse::<u32>().ok())
            .map(|n| (format!("tap{vmid}i{n}"), json!({"netin": 0, "netout": 0})))
            .collect();
        value["nics"] = nics.into();
        if let Some(blockstat) = host.guests.blockstat(vmid).await {
            // PVE::QemuServer::vmstatus sums up what QEMU counts for each drive.
            let sum = |count: &str| {
                let counts = blockstat.values();
                counts
                    .filter_map(|stats| stats.get(count)?.as_u64())
                    .sum::<u64>()
            };
            value["diskread"] = json!(sum("rd_bytes"));
            value["diskwrite"] = json!(sum("wr_bytes"));
            value["blockstat"] = blockstat.into();
        }
        value["clipboard"] = Value::Null;
        for name in [
            "cpusome",
            "cpufull",
            "iosome",
            "iofull",
            "memorysome",
            "memoryfull",
        ] {
            value[format!("pressure{name}")] = json!(0);
        }
    }
    Ok(value)
}
