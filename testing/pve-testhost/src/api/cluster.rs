//! Cluster, node and access calls that are about no single guest.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use super::Context;
use crate::datacenter::Datacenter;
use crate::error::{ApiError, ApiResult};
use crate::host::Host;

pub fn handle(method: &str, template: &str, context: &Context) -> ApiResult {
    match (method, template) {
        ("GET", "/version" | "/nodes/{node}/version") => Ok(version()),
        ("GET", "/access/domains") => Ok(json!([
            {"realm": "pam", "type": "pam", "comment": "Linux PAM standard authentication"},
            {"realm": "pve", "type": "pve", "comment": "Proxmox VE authentication server"},
        ])),
        ("GET", "/access/ticket") => Ok(Value::Null),
        ("POST", "/access/ticket") => context.host.access.login(&context.params),
        ("GET", "/access/permissions") => context
            .host
            .access
            .permissions(&context.who, &context.params),
        ("GET", "/nodes") => Ok(context
            .host
            .nodes()
            .iter()
            .map(|host| node(context, host))
            .collect()),
        ("GET", "/nodes/{node}") => Ok([
            "capabilities",
            "dns",
            "network",
            "qemu",
            "status",
            "storage",
            "tasks",
            "version",
        ]
        .map(|name| json!({"name": name}))
        .into_iter()
        .collect()),
        ("GET", "/nodes/{node}/status") => Ok(node_status(context)),
        ("GET", "/nodes/{node}/network") => Ok(network(context)),
        ("GET", "/nodes/{node}/capabilities/qemu/cpu") => Ok(crate::cpu::list(
            &context.host.dir,
            context.get("arch"),
            context.may("/nodes", &["Sys.Audit"]),
        )),
        ("GET", "/nodes/{node}/capabilities/qemu/cpu-flags") => {
            Ok(crate::cpu::flags(context.get("arch")))
        }
        ("GET", "/cluster/options") => Ok(cluster_options(context)),
        ("PUT", "/cluster/options") => set_options(context),
        ("GET", "/nodes/{node}/dns") => Ok(context.host.facts().dns.json()),
        // The host has one certificate, which stands for the cluster's authority too.
        ("GET", "/nodes/{node}/certificates/info") => Ok(json!([
            {"filename": "pve-root-ca.pem", "fingerprint": context.host.fingerprint},
            {"filename": "pve-ssl.pem", "fingerprint": context.host.fingerprint},
        ])),
        ("GET", "/cluster/nextid") => next_id(context),
        ("GET", "/cluster/status") => Ok(cluster_status(context)),
        ("GET", "/cluster/resources") => Ok(resources(context)),
        ("GET", "/pools") => pools(context),
        ("GET", "/pools/{poolid}") => pool(context),
        ("POST", "/pools") => add_pool(context),
        _ => Err(ApiError::not_implemented(method, template)),
    }
}

fn version() -> Value {
    json!({"version": "9.2.11", "release": "9.2", "repoid": "14a22df35955d97d"})
}

fn uptime(host: &Host) -> u64 {
    host.started.elapsed().map_or(0, |time| time.as_secs())
}

/// Memory of a node in bytes, total and available: this machine's unless `nodes.json` says more.
fn memory(host: &Host) -> (u64, u64) {
    let facts = host.facts();
    let (total, available) = own_memory();
    let total = facts.maxmem.unwrap_or(total);
    let used = facts.mem.map(|used| total.saturating_sub(used));
    (total, used.unwrap_or(available).min(total))
}

/// Memory of this machine in bytes: total and available.
fn own_memory() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace()
            .nth(1)?
            .parse::<u64>()
            .ok()
            .map(|kib| kib << 10)
    };
    (
        field("MemTotal:").unwrap_or(0),
        field("MemAvailable:").unwrap_or(0),
    )
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn node(context: &Context, host: &Host) -> Value {
    let mut value = json!({
        "node": host.node, "id": format!("node/{}", host.node), "type": "node", "ssl_fingerprint": host.fingerprint, "status": "unknown",
    });
    if context.may(&format!("/nodes/{}", host.node), &["Sys.Audit"]) {
        value["level"] = json!("");
        if host.facts().offline {
            value["status"] = json!("offline");
            return value;
        }
        let (total, available) = memory(host);
        value["status"] = json!("online");
        value["cpu"] = json!(0);
        value["maxcpu"] = json!(cpus());
        value["mem"] = json!(total - available);
        value["maxmem"] = json!(total);
        value["uptime"] = json!(uptime(host));
        if let Ok(local) = host.storage("local") {
            let (total, used, _) = local.space();
            value["disk"] = json!(used);
            value["maxdisk"] = json!(total);
        }
    }
    value
}

fn node_status(context: &Context) -> Value {
    let (total, available) = memory(&context.host);
    let (disk, used, free) = context
        .host
        .storage("local")
        .map_or((0, 0, 0), crate::storage::Storage::space);
    json!({
        "uptime": uptime(&context.host), "cpu": 0, "wait": 0, "idle": 0, "loadavg": ["0.00", "0.00", "0.00"],
        "memory": {"total": total, "used": total - available, "free": available, "available": available},
        "swap": {"total": 0, "used": 0, "free": 0},
        "rootfs": {"total": disk, "used": used, "free": free, "avail": free},
        "cpuinfo": {"cpus": cpus(), "cores": cpus(), "sockets": 1, "model": "test host", "hvm": "0", "mhz": "0", "user_hz": 100, "flags": ""},
        "pveversion": "pve-manager/9.2.11/14a22df35955d97d",
        "kversion": "test host", "boot-info": {"mode": "legacy-bios"},
        "current-kernel": {"sysname": "Linux", "machine": "x86_64", "release": "", "version": ""},
    })
}

/// Bridges, and with them the virtual networks of SDN that the user may use or see.
fn network(context: &Context) -> Value {
    let wanted = context.get("type");
    let facts = context.host.facts();
    let mut shown = Vec::new();
    if wanted.is_none_or(|kind| {
        matches!(
            kind,
            "bridge" | "any_bridge" | "any_local_bridge" | "include_sdn"
        )
    }) {
        shown.extend(facts.bridges.iter().map(|name| {
            json!({
                "iface": name, "type": "bridge", "active": 1, "autostart": 1, "method": "static", "method6": "manual",
                "address": "10.77.0.1", "netmask": "24", "cidr": "10.77.0.1/24", "bridge_ports": "", "bridge_stp": "off",
                "bridge_fd": "0", "families": ["inet"], "priority": 3,
            })
        }));
    }
    if wanted.is_some_and(|kind| matches!(kind, "any_bridge" | "include_sdn" | "vnet")) {
        let may = |name: &str, zone: &str| {
            let path = format!("/sdn/zones/{zone}/{name}");
            context.may(&path, &["SDN.Audit", "SDN.Use", "SDN.Allocate"])
        };
        let vnets = facts.vnets.iter().filter(|(name, zone)| may(name, zone));
        shown.extend(vnets.map(|(name, _)| json!({"iface": name, "type": "vnet", "active": 1})));
    }
    shown.into()
}

fn next_id(context: &Context) -> ApiResult {
    let taken: HashSet<u32> = crate::vm::everywhere(&context.host)
        .into_iter()
        .map(|(_, vmid)| vmid)
        .collect();
    if let Some(vmid) = context.number("vmid") {
        if taken.iter().any(|known| u64::from(*known) == vmid) {
            return Err(ApiError::param("vmid", format!("VM {vmid} already exists")));
        }
        return Ok(json!(vmid.to_string()));
    }
    let range = Datacenter::read(&context.host.dir).next_id();
    let (lower, upper) = (range.start, range.end);
    let free = range.into_iter().find(|vmid| !taken.contains(vmid));
    free.map(|vmid| json!(vmid.to_string())).ok_or_else(|| {
        ApiError::failed(format!(
            "unable to get any free VMID in range [{lower}, {upper}]"
        ))
    })
}

/// Without Sys.Audit on / little more than the tags that the user may set.
fn cluster_options(context: &Context) -> Value {
    let all = context.may("/", &["Sys.Audit"]);
    let mut shown = Datacenter::read(&context.host.dir).json(all);
    let tags = crate::vm::tags::allowed_tags(&context.host, &context.who);
    shown.insert("allowed-tags".into(), json!(tags));
    shown.into()
}

fn set_options(context: &Context) -> ApiResult {
    let mut set = context.params.clone();
    let delete = set.remove("delete").unwrap_or_default();
    Datacenter::change(&context.host.dir, &set, &crate::formats::list(&delete))?;
    Ok(Value::Null)
}

fn cluster_status(context: &Context) -> Value {
    let nodes = context.host.nodes();
    let mut found: Vec<Value> = Vec::new();
    if nodes.len() > 1 {
        found.push(json!({
            "type": "cluster", "id": "cluster", "name": "testhost", "version": 1, "nodes": nodes.len(), "quorate": 1,
        }));
    }
    for (n, host) in nodes.iter().enumerate() {
        // A node alone is not a cluster and has no number.
        let number = if nodes.len() > 1 { n + 1 } else { 0 };
        found.push(json!({
            "type": "node", "id": format!("node/{}", host.node), "name": host.node, "nodeid": number,
            "local": u8::from(host.node == context.host.node), "online": u8::from(!host.facts().offline),
            "ip": "127.0.0.1", "level": "",
        }));
    }
    found.into()
}

/// What pvestatd tells the cluster every ten seconds. Of the VMs on a node that is down the last word stays.
pub fn broadcast(host: &Host) {
    let mut heard = HashMap::new();
    let mut known = host
        .broadcast
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    for node in host.nodes() {
        let offline = node.facts().offline;
        for vmid in crate::vm::ids(&node) {
            let last = known.remove(&vmid).filter(|_| offline);
            let value = last.or_else(|| {
                crate::vm::status::summary(&node, vmid)
                    .ok()
                    .map(of_broadcast)
            });
            heard.extend(value.map(|value| (vmid, value)));
        }
    }
    *known = heard;
}

fn resources(context: &Context) -> Value {
    let host = &context.host;
    let wanted = context.get("type");
    let mut found = Vec::new();
    if wanted.is_none_or(|kind| kind == "vm") {
        vms(context, &mut found);
    }
    for node in host.nodes() {
        if wanted.is_none_or(|kind| kind == "node") {
            let mut entry = self::node(context, &node);
            if let Some(entry) = entry.as_object_mut() {
                entry.remove("ssl_fingerprint");
                if entry["status"] == "online" {
                    entry.insert("cgroup-mode".into(), json!(2));
                }
            }
            found.push(entry);
        }
        if wanted.is_none_or(|kind| kind == "storage") {
            storages(context, &node, &mut found);
        }
    }
    if wanted.is_none() && context.may("/sdn/zones/localnetwork", &["SDN.Audit"]) {
        found.extend(host.nodes().iter().map(|node| {
            json!({
                "id": format!("network/{}/zone/localnetwork", node.node), "type": "network", "network-type": "zone",
                "network": "localnetwork", "node": node.node, "status": "ok",
            })
        }));
    }
    found.into()
}

/// What the node's broadcast tells of a VM: other names and other figures than the node's own list.
fn of_broadcast(mut summary: Value) -> Value {
    if let Some(entry) = summary.as_object_mut() {
        for name in ["serial", "pid", "lock", "tags"] {
            entry.remove(name);
        }
        if let Some(cpus) = entry.remove("cpus") {
            entry.insert("maxcpu".into(), cpus);
        }
        for name in ["template", "diskread", "diskwrite"] {
            entry.entry(name).or_insert(json!(0));
        }
    }
    summary
}

fn vms(context: &Context, found: &mut Vec<Value>) {
    let host = &context.host;
    let pools = crate::vm::pools(&host.dir);
    let pool_of = |vmid: u32| {
        let holds = |(_, members): &(&String, &Vec<u32>)| members.contains(&vmid);
        pools.iter().find(holds).map(|(name, _)| name)
    };
    let ha = crate::ha::Ha::read(&host.dir);
    let known = host
        .broadcast
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let forgotten: HashSet<String> = host
        .nodes()
        .iter()
        .filter(|node| node.facts().forgotten)
        .map(|node| node.node.clone())
        .collect();
    for (node, vmid) in crate::vm::everywhere(host) {
        if !context.may(&format!("/vms/{vmid}"), &["VM.Audit"]) {
            continue;
        }
        // Of a VM that pvestatd has not seen only its config's own facts are known.
        let heard = known.get(&vmid).filter(|_| !forgotten.contains(&node.node));
        let mut value = heard
            .cloned()
            .unwrap_or_else(|| json!({"vmid": vmid, "status": "unknown"}));
        value["id"] = json!(format!("qemu/{vmid}"));
        value["type"] = json!("qemu");
        value["node"] = json!(node.node);
        if let Some(resource) = ha.resources.get(&crate::ha::sid(vmid)) {
            value["hastate"] = match &resource["state"] {
                Value::Null => json!("started"),
                state => state.clone(),
            };
        }
        if let Ok(config) = crate::vm::config::Config::load(&node, vmid) {
            for name in ["tags", "lock"] {
                if let Some(text) = config.current.get(name) {
                    value[name] = json!(text);
                }
            }
            if let Some(pool) = pool_of(vmid) {
                value["pool"] = json!(pool);
            }
        }
        found.push(value);
    }
}

fn storages(context: &Context, node: &Host, found: &mut Vec<Value>) {
    let offline = node.facts().offline;
    for storage in node.storages().iter().filter(|storage| storage.enabled) {
        if context.may(
            &format!("/storage/{}", storage.id),
            &["Datastore.Audit", "Datastore.AllocateSpace"],
        ) {
            let (total, used, _) = storage.space();
            found.push(json!({
                "id": format!("storage/{}/{}", node.node, storage.id), "type": "storage", "node": node.node, "storage": storage.id,
                "status": if offline { "unknown" } else { "available" }, "disk": used, "maxdisk": total, "plugintype": storage.kind,
                "shared": u8::from(storage.shared), "content": storage.content.join(","),
            }));
        }
    }
}

fn pools(context: &Context) -> ApiResult {
    let pools = crate::vm::pools(&context.host.dir);
    let may = |name: &str| context.may(&format!("/pool/{name}"), &["Pool.Audit"]);
    if let Some(wanted) = context.get("poolid")
        && !pools.contains_key(wanted)
    {
        return Err(ApiError::failed(format!("pool '{wanted}' does not exist")));
    }
    let places: HashMap<u32, String> = crate::vm::everywhere(&context.host)
        .into_iter()
        .map(|(node, vmid)| (vmid, node.node.clone()))
        .collect();
    let member = |vmid: &u32| json!({"id": format!("qemu/{vmid}"), "type": "qemu", "vmid": vmid, "node": places.get(vmid)});
    Ok(pools
        .iter()
        .filter(|(name, _)| may(name) && context.get("poolid").is_none_or(|wanted| wanted == *name))
        .map(|(name, members)| {
            let mut value = json!({"poolid": name});
            if context.get("poolid").is_some() {
                value["members"] = members.iter().map(member).collect();
            }
            value
        })
        .collect())
}

/// GET /pools/ID, which the newer GET /pools?poolid=ID replaces.
fn pool(context: &Context) -> ApiResult {
    let found = pools(context)?;
    Ok(json!({"members": found[0]["members"]}))
}

fn add_pool(context: &Context) -> ApiResult {
    let name = context.need("poolid")?;
    let mut pools = crate::vm::pools(&context.host.dir);
    if pools.contains_key(name) {
        return Err(ApiError::failed(format!(
            "create pool failed: pool '{name}' already exists"
        )));
    }
    pools.insert(name.to_owned(), Vec::new());
    crate::vm::save_pools(&context.host, &pools)?;
    Ok(Value::Null)
}
