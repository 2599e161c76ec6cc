//! `/nodes/N/qemu/ID/snapshot` and `/nodes/N/qemu/ID/feature`.

use serde_json::{Map, Value, json};

use super::Context;
use crate::error::{ApiError, ApiResult};
use crate::guest::Power;
use crate::vm::config::Config;
use crate::vm::snapshot::{self, Wanted};
use crate::vm::{options, power};

/// `rest` is what follows `/nodes/{node}/qemu/{vmid}/snapshot`.
pub async fn handle(method: &str, rest: &str, context: Context) -> ApiResult {
    let vmid = context.vmid()?;
    match (method, rest) {
        ("GET", "") => list(&context, vmid),
        ("POST", "") => create(&context, vmid),
        ("GET", "/{snapname}") => Ok(json!([{"cmd": "rollback"}, {"cmd": "config"}])),
        ("DELETE", "/{snapname}") => delete(&context, vmid),
        ("GET", "/{snapname}/config") => config(&context, vmid),
        ("PUT", "/{snapname}/config") => set_description(&context, vmid).await,
        ("POST", "/{snapname}/rollback") => rollback(&context, vmid),
        _ => Err(ApiError::not_implemented(method, rest)),
    }
}

fn list(context: &Context, vmid: u32) -> ApiResult {
    let config = Config::load(&context.host, vmid)?;
    let number = |text: Option<&String>| text.and_then(|text| text.parse::<u64>().ok());
    let mut found: Vec<Value> = Vec::new();
    for (name, options) in &config.snapshots {
        let mut entry = json!({
            "name": name, "snaptime": number(options.get("snaptime")).unwrap_or(0),
            "vmstate": u8::from(options.contains_key("vmstate")),
            "description": options.get("description").map_or("", String::as_str),
        });
        for key in ["parent", "snapstate"] {
            if let Some(text) = options.get(key) {
                entry[key] = json!(text);
            }
        }
        found.push(entry);
    }
    let running = context.host.guests.power(vmid) != Power::Stopped;
    let mut current = json!({
        "name": "current", "description": "You are here!", "digest": config.digest, "running": u8::from(running),
    });
    if let Some(parent) = config.current.get("parent") {
        current["parent"] = json!(parent);
    }
    found.push(current);
    Ok(found.into())
}

fn create(context: &Context, vmid: u32) -> ApiResult {
    let name = context.need("snapname")?.to_owned();
    if name == "current" || name.eq_ignore_ascii_case("pending") {
        let name = name.to_ascii_lowercase();
        return Err(ApiError::failed(format!(
            "unable to use snapshot name '{name}' (reserved name)"
        )));
    }
    let config = Config::load(&context.host, vmid)?;
    if context.flag("vmstate") {
        check_live(&config)?;
    }
    let wanted = Wanted {
        name,
        description: context.get("description").map(str::to_owned),
        vmstate: context.flag("vmstate"),
        interrupt: context.interrupt,
    };
    let host = context.host.clone();
    context.spawn("qmsnapshot", &vmid.to_string(), move |log| async move {
        snapshot::create(&host, vmid, wanted, &log).await
    })
}

/// Refuse to save the memory of a guest with devices that it cannot be restored to
/// (PVE::QemuMigrate::Helpers::check_non_migratable_resources).
fn check_live(config: &Config) -> Result<(), ApiError> {
    let has = |key: &str| config.current.contains_key(key);
    let mut blockers: Vec<&str> = Vec::new();
    blockers.extend(["amd-sev", "intel-tdx"].into_iter().filter(|key| has(key)));
    if (0..10).any(|n| has(&format!("virtiofs{n}"))) {
        blockers.push("virtiofs");
    }
    match blockers.is_empty() {
        true => Ok(()),
        false => Err(ApiError::failed(format!(
            "Cannot live-migrate, snapshot (with RAM), or hibernate a VM with: {}",
            blockers.join(", ")
        ))),
    }
}

fn delete(context: &Context, vmid: u32) -> ApiResult {
    let name = context.need("snapname")?.to_owned();
    let (force, interrupt) = (context.flag("force"), context.interrupt);
    let host = context.host.clone();
    context.spawn("qmdelsnapshot", &vmid.to_string(), move |log| async move {
        snapshot::delete(&host, vmid, &name, force, interrupt, &log).await
    })
}

fn rollback(context: &Context, vmid: u32) -> ApiResult {
    let name = context.need("snapname")?.to_owned();
    let start = context.flag("start");
    if start {
        let path = format!("/vms/{vmid}");
        let access = &context.host.access;
        access.check(&context.who, &path, &["VM.PowerMgmt"])?;
    }
    let (host, who, interrupt) = (context.host.clone(), context.who.clone(), context.interrupt);
    context.spawn("qmrollback", &vmid.to_string(), move |log| async move {
        let with_memory = snapshot::rollback(&host, vmid, &name, interrupt, &log).await?;
        if start || with_memory {
            log.line(power::start_task(&host, vmid, &who, None));
        }
        Ok(())
    })
}

fn find(config: &Config, name: &str) -> Result<Map<String, Value>, ApiError> {
    let options = config
        .snapshots
        .get(name)
        .ok_or_else(|| ApiError::failed(snapshot::missing(name)))?;
    let shown = |(key, value): (&String, &String)| {
        let value = match key.as_str() {
            "snaptime" => json!(value.parse::<u64>().unwrap_or(0)),
            _ => options::shown(key, value),
        };
        (key.clone(), value)
    };
    Ok(options.iter().map(shown).collect())
}

fn config(context: &Context, vmid: u32) -> ApiResult {
    let config = Config::load(&context.host, vmid)?;
    find(&config, context.need("snapname")?).map(Value::Object)
}

/// GET config?snapshot=NAME: with the digest of the file.
pub fn config_of(config: &Config, name: &str) -> ApiResult {
    let mut shown = find(config, name)?;
    shown.insert("digest".into(), json!(config.digest));
    Ok(shown.into())
}

async fn set_description(context: &Context, vmid: u32) -> ApiResult {
    let host = &context.host;
    let name = context.need("snapname")?;
    let Some(text) = context.get("description") else {
        return Ok(Value::Null);
    };
    let _guard = host.lock_vm(vmid).await.map_err(ApiError::failed)?;
    let mut config = Config::load(host, vmid)?;
    config.check_lock().map_err(ApiError::failed)?;
    let options = config
        .snapshots
        .get_mut(name)
        .ok_or_else(|| ApiError::failed(snapshot::missing(name)))?;
    options.insert("description".into(), text.to_owned());
    config.save(host, vmid)?;
    Ok(Value::Null)
}

/// GET feature: can this VM (or a snapshot of it) be snapshotted, cloned, copied?
pub fn feature(context: &Context, vmid: u32) -> ApiResult {
    let host = &context.host;
    let config = Config::load(host, vmid)?;
    let options = match context.get("snapname") {
        None => &config.current,
        Some(name) => config
            .snapshots
            .get(name)
            .ok_or_else(|| ApiError::failed(snapshot::missing(name)))?,
    };
    let has = match context.need("feature")? {
        "snapshot" => snapshot::is_possible(host, options),
        "clone" => crate::vm::template::is_template(&config),
        _ => true,
    };
    let nodes: Vec<String> = match crate::vm::copy::is_shared(host, options) {
        true => host.nodes().iter().map(|node| node.node.clone()).collect(),
        false => vec![host.node.clone()],
    };
    Ok(json!({"hasFeature": u8::from(has), "nodes": nodes}))
}
