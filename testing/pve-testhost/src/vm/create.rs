//! Creating VMs and their volumes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;

use super::config::Config;
use super::drive::{self, Drive, is_drive};
use super::options;
use super::permission::Scope;
use super::provide::provide;
use crate::access::Identity;
use crate::clock::now;
use crate::context::Context;
use crate::error::{ApiError, ApiResult};
use crate::host::Host;
use crate::random::random_uuid;
use crate::task::Log;

/// Parameters of the create call that are no options.
const NOT_OPTIONS: [&str; 11] = [
    "node",
    "vmid",
    "pool",
    "start",
    "storage",
    "archive",
    "force",
    "unique",
    "live-restore",
    "bwlimit",
    "ha-managed",
];

/// POST /nodes/N/qemu.
pub async fn create(context: Context) -> ApiResult {
    let vmid = context.vmid()?;
    let host = context.host.clone();
    if context.get("archive").is_some() {
        return Err(ApiError::failed("the test host cannot restore archives"));
    }
    let pool = context.get("pool").map(str::to_owned);
    check_allocate(&context, vmid, pool.as_deref())?;
    let scope = Scope {
        context: &context,
        vmid,
        is_new: true,
        pool: pool.as_deref(),
    };
    let ha_managed = context.flag("ha-managed");
    if ha_managed {
        host.access.check(&context.who, "/", &["Sys.Console"])?;
    }
    let mut wanted = BTreeMap::new();
    for (key, value) in &context.params {
        if NOT_OPTIONS.contains(&key.as_str())
            || key.starts_with("import-working")
            || options::is_ignored(key, value)
        {
            continue;
        }
        scope.check(key, Some(value), None)?;
        wanted.insert(key.clone(), options::normalize(key, value)?);
    }
    for (key, value) in wanted.iter().filter(|(key, _)| is_drive(key)) {
        check_storage(&context, vmid, key, &Drive::parse(value))?;
    }
    reserve(&host, vmid, "create")?;
    let start = context.flag("start");
    let (who, interrupt) = (context.who.clone(), context.interrupt);
    // Made before the worker: one that never gets to run leaves nothing either.
    let mut making = Making::new(host.clone(), vmid);
    context.spawn("qmcreate", &vmid.to_string(), move |log| async move {
        if let Err(killed) = interrupt.pass().await {
            making.finish();
            return Err(killed);
        }
        // No file lock: `lock: create` in the config keeps everybody else out.
        build(&host, vmid, &who, wanted, &mut making, &log)
            .await
            .map_err(|error| format!("unable to create VM {vmid} - {error}"))?;
        join_pool(&host, vmid, pool)?;
        making.finish();
        if ha_managed {
            log.line("Add as HA resource");
        }
        // As was seen: a VM that the create does not start is not added.
        if ha_managed && start {
            let mut ha = crate::ha::Ha::read(&host.dir);
            let resource = json!({"type": "vm", "state": "started"});
            ha.resources.insert(crate::ha::sid(vmid), resource);
            ha.save(&host.dir).map_err(|error| error.to_string())?;
        }
        if start {
            log.line("Execute autostart");
            let upid = super::power::start_task(&host, vmid, &who, None);
            log.line(upid);
        }
        Ok(())
    })
}

/// VM.Allocate on the VM or on its pool; who has neither is not told where.
fn check_allocate(context: &Context, vmid: u32, pool: Option<&str>) -> Result<(), ApiError> {
    let (host, who) = (&context.host, &context.who);
    if let Some(pool) = pool
        && !super::pools(&host.dir).contains_key(pool)
    {
        return Err(ApiError::failed(format!("pool '{pool}' does not exist")));
    }
    let may = |path: String| host.access.has(who, &path, "VM.Allocate");
    let pool = pool.map(|pool| format!("/pool/{pool}"));
    if may(format!("/vms/{vmid}")) || pool.is_some_and(may) {
        return Ok(());
    }
    Err(ApiError::status(403, "Permission check failed"))
}

/// A new VM is in its pool once it is made.
pub fn join_pool(host: &Host, vmid: u32, pool: Option<String>) -> Result<(), String> {
    let Some(pool) = pool else {
        return Ok(());
    };
    let mut pools = super::pools(&host.dir);
    pools.entry(pool).or_default().push(vmid);
    super::save_pools(host, &pools).map_err(|error| error.to_string())
}

/// What a create that fails (or is killed) leaves behind: nothing.
pub struct Making {
    host: Arc<Host>,
    vmid: u32,
    /// The files made so far.
    pub volumes: Vec<PathBuf>,
    done: bool,
}

impl Making {
    /// Nothing is made yet.
    pub fn new(host: Arc<Host>, vmid: u32) -> Self {
        Self {
            host,
            vmid,
            volumes: Vec::new(),
            done: false,
        }
    }

    /// All went well.
    pub fn finish(mut self) {
        self.done = true;
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if !self.done {
            for volume in &self.volumes {
                let _ = std::fs::remove_file(volume);
            }
            let _ = Config::remove(&self.host, self.vmid);
            super::destroy::leave_pools(&self.host, self.vmid);
        }
    }
}

/// Take the VMID: of several calls at once exactly one succeeds.
pub fn reserve(host: &Host, vmid: u32, lock: &str) -> Result<(), ApiError> {
    let _taking = host
        .taking
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let name = format!("{vmid}.conf");
    if let Some(owner) = host
        .nodes()
        .into_iter()
        .find(|node| node.configs.join(&name).exists())
    {
        return Err(ApiError::failed(format!(
            "unable to create VM {vmid} - VM {vmid} already exists on node '{}'",
            owner.node
        )));
    }
    let text = match lock {
        "clone" => "#qmclone temporary file\nlock: clone\n".to_owned(),
        _ => format!("lock: {lock}\n"),
    };
    Ok(std::fs::write(host.configs.join(name), text)?)
}

async fn build(
    host: &Host,
    vmid: u32,
    who: &Identity,
    mut wanted: BTreeMap<String, String>,
    making: &mut Making,
    log: &Log,
) -> Result<(), String> {
    let keys: Vec<String> = wanted.keys().filter(|key| is_drive(key)).cloned().collect();
    for key in keys {
        let drive = Drive::parse(&wanted[&key]);
        check_cloudinit(&wanted, &key, &drive)?;
        let (value, volume) = provide(host, vmid, &key, drive, log).await?;
        making.volumes.extend(volume);
        wanted.insert(key, value);
    }
    if !wanted.contains_key("boot") {
        wanted.insert(
            "boot".into(),
            drive::boot_value(&drive::default_boot(&wanted)),
        );
    }
    wanted
        .entry("smbios1".into())
        .or_insert_with(|| format!("uuid={}", random_uuid()));
    // No generation on ARM.
    if !wanted.contains_key("vmgenid") && wanted.get("arch").is_none_or(|arch| arch != "aarch64") {
        wanted.insert("vmgenid".into(), random_uuid());
    }
    if let Some(tags) = wanted.get("tags").cloned() {
        super::tags::check_create(host, who, vmid, &tags).map_err(|error| error.task_text())?;
        wanted.insert("tags".into(), super::tags::unique(host, &tags));
    }
    wanted.insert(
        "meta".into(),
        format!("creation-qemu=10.0.2,ctime={}", now()),
    );
    let mut config = Config {
        current: wanted,
        ..Config::default()
    };
    config.save(host, vmid).map_err(|error| error.to_string())
}

/// Checks of a drive that are made before any task.
pub fn check_storage(
    context: &Context,
    vmid: u32,
    key: &str,
    drive: &Drive,
) -> Result<(), ApiError> {
    let host = &context.host;
    if let Some(source) = drive.get("import-from") {
        if source.starts_with('/') && !context.who.is_root() {
            return Err(ApiError::failed(
                "Only root can pass arbitrary filesystem paths",
            ));
        }
        if drive.allocation().is_none() {
            return Err(ApiError::param(
                key,
                "import-from requires special syntax - use <storage ID>:0,import-from=<source>",
            ));
        }
    }
    if !drive.has_medium() {
        return Ok(());
    }
    let Some((storage, name)) = drive.volume() else {
        if context.who.is_root() {
            return Ok(());
        }
        return Err(ApiError::failed(
            "Only root can pass arbitrary filesystem paths",
        ));
    };
    let storage = host.storage(storage)?;
    let path = format!("/storage/{}", storage.id);
    if name == "cloudinit" {
        return host
            .access
            .check(&context.who, &path, &["Datastore.AllocateSpace"]);
    }
    if drive.allocation().is_some() {
        host.access
            .check(&context.who, &path, &["Datastore.AllocateSpace"])?;
        if !storage.takes("images") {
            let text = format!("storage '{}' does not support vm images", storage.id);
            return Err(ApiError::param("storage", text));
        }
        return Ok(());
    }
    let parsed = storage.parse(name).map_err(ApiError::failed)?;
    // A volume of this VM belongs to whoever may configure it.
    if parsed.vmid != Some(vmid) {
        host.access.check_any(
            &context.who,
            &path,
            &["Datastore.AllocateSpace", "Datastore.Audit"],
        )?;
    }
    Ok(())
}

/// A VM has one cloud-init drive.
pub fn check_cloudinit(
    options: &BTreeMap<String, String>,
    key: &str,
    drive: &Drive,
) -> Result<(), String> {
    let is_wish = |drive: &Drive| matches!(drive.volume(), Some((_, "cloudinit")));
    if !is_wish(drive) {
        return Ok(());
    }
    // Those that are asked for count once they are made, in their order.
    let other = options.iter().find(|(other, value)| {
        let known = Drive::parse(value);
        *other != key && drive::bus(other).is_some() && known.is_cloudinit() && !is_wish(&known)
    });
    match other {
        Some((other, _)) => Err(format!(
            "{key} - cloud-init drive is already attached at '{other}'"
        )),
        None => Ok(()),
    }
}

/// The answer of GET config.
pub fn config_json(config: &Config, current: bool) -> serde_json::Value {
    let options = if current {
        config.current.clone()
    } else {
        config.effective()
    };
    let mut shown: serde_json::Map<String, serde_json::Value> = options
        .iter()
        .map(|(key, value)| (key.clone(), options::shown(key, value)))
        .collect();
    shown.insert("digest".into(), json!(config.digest));
    shown.into()
}
