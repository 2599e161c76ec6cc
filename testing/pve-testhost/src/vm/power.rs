//! Starting and stopping VMs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::config::Config;
use super::drive::{Drive, is_drive, is_net};
use super::{cloudinit, options, pending};
use crate::access::Identity;
use crate::context::Context;
use crate::error::{ApiError, ApiResult};
use crate::guest::{Power, VmSpec};
use crate::ha::Ha;
use crate::host::Host;
use crate::nodes::Facts;
use crate::task::Log;

/// Seconds a shutdown waits when nobody says.
const SHUTDOWN: u64 = 60;
/// How often a guest that was asked to power off is looked at.
const POLL: Duration = Duration::from_millis(100);
/// A reboot's second half starts this long after the VM has stopped.
const RESTART: Duration = Duration::from_secs(2);

fn running(host: &Host, vmid: u32) -> bool {
    host.guests.power(vmid) != Power::Stopped
}

/// POST status/start.
pub fn start(context: &Context, vmid: u32) -> ApiResult {
    if let Some(upid) = ask_ha(context, vmid, "start", None) {
        return upid;
    }
    let skiplock = context.flag("skiplock");
    let fail = context.fail.clone();
    let upid = spawn_start(&context.host, vmid, &context.who, fail, skiplock);
    Ok(json!(upid))
}

/// What passes until HA's manager does what it was asked for.
const HA_ROUND: Duration = Duration::from_secs(1);

/// Leave it to HA, if it manages the VM: a task that only asks, and a moment later root's own that does it.
fn ask_ha(
    context: &Context,
    vmid: u32,
    what: &'static str,
    timeout: Option<u64>,
) -> Option<ApiResult> {
    let host = context.host.clone();
    if !Ha::read(&host.dir).manages(vmid) {
        return None;
    }
    let kind = if what == "start" { "hastart" } else { "hastop" };
    Some(
        context.spawn(kind, &vmid.to_string(), move |log| async move {
            log.line(format!("Requesting HA {what} for VM {vmid}"));
            let mut ha = Ha::read(&host.dir);
            ha.set_state(
                vmid,
                if what == "start" {
                    "started"
                } else {
                    "stopped"
                },
            );
            ha.save(&host.dir).map_err(|error| error.to_string())?;
            tokio::spawn(async move {
                tokio::time::sleep(HA_ROUND).await;
                let root = Identity {
                    user: "root@pam".into(),
                    token: None,
                };
                if what == "start" {
                    start_task(&host, vmid, &root, None);
                    return;
                }
                let worker = host.clone();
                let id = vmid.to_string();
                host.tasks
                    .spawn("qmshutdown", &id, &root, None, move |log| async move {
                        let _guard = worker.lock_vm(vmid).await?;
                        if !running(&worker, vmid) {
                            return Ok(());
                        }
                        let how = Down {
                            timeout: Duration::from_secs(timeout.unwrap_or(SHUTDOWN)),
                            force: true,
                            skiplock: false,
                        };
                        down(&worker, vmid, how, &log).await
                    });
            });
            Ok(())
        }),
    )
}

/// The task that starts a VM.
pub fn start_task(host: &Arc<Host>, vmid: u32, who: &Identity, fail: Option<String>) -> String {
    spawn_start(host, vmid, who, fail, false)
}

fn spawn_start(
    host: &Arc<Host>,
    vmid: u32,
    who: &Identity,
    fail: Option<String>,
    skiplock: bool,
) -> String {
    let worker = host.clone();
    host.tasks.spawn(
        "qmstart",
        &vmid.to_string(),
        who,
        fail,
        move |log| async move {
            let _guard = worker.lock_vm(vmid).await?;
            let mut config = Config::load(&worker, vmid).map_err(|error| error.message)?;
            if super::template::is_template(&config) {
                return Err("you can't start a vm if it's a template".into());
            }
            // A suspended VM is resumed by its start.
            if !skiplock && !config.has_lock("suspended") {
                config.check_lock()?;
            }
            if running(&worker, vmid) {
                return Err(format!("VM {vmid} already running"));
            }
            if config.has_lock("suspended") {
                config.current.remove("lock");
            }
            pending::apply(&worker, vmid, &mut config);
            config
                .save(&worker, vmid)
                .map_err(|error| error.to_string())?;
            let volumes = volumes(&worker, &config.current)?;
            check_bridges(&worker.facts(), &config.current)?;
            crate::cpu::check_start(&worker.dir, &config.current)?;
            if cloudinit::generate(&worker, vmid, &mut config).await? {
                log.line("generating cloud-init ISO");
            }
            let ovmf = config
                .current
                .get("bios")
                .is_some_and(|bios| bios == "ovmf");
            if ovmf && !config.current.contains_key("efidisk0") {
                log.warn("no efidisk configured! Using temporary efivars disk.");
            }
            config
                .save(&worker, vmid)
                .map_err(|error| error.to_string())?;
            let spec = VmSpec {
                vmid,
                name: config
                    .current
                    .get("name")
                    .cloned()
                    .unwrap_or_else(|| format!("VM {vmid}")),
                config: config.current,
                volumes,
                run_dir: worker.dir.join("run").join(vmid.to_string()),
            };
            let lines = log.clone();
            worker
                .guests
                .start(spec, &move |line: &str| lines.line(line))
                .await
        },
    )
}

/// The file of every drive with a medium.
fn volumes(
    host: &Host,
    config: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, std::path::PathBuf>, String> {
    let mut found = BTreeMap::new();
    for (key, value) in config.iter().filter(|(key, _)| is_drive(key)) {
        let drive = Drive::parse(value);
        if !drive.has_medium() {
            continue;
        }
        let file = match drive.volume() {
            Some((storage, _)) => {
                host.storage(storage)
                    .map_err(|error| error.message)?
                    .check_enabled()?;
                host.volume_file(&drive.file)?
            }
            None => drive.file.clone().into(),
        };
        // A cloud-init drive is written (again) at every start.
        if !file.exists() && !drive.is_cloudinit() {
            return Err(format!("volume '{}' does not exist", drive.file));
        }
        found.insert(key.clone(), file);
    }
    Ok(found)
}

fn check_bridges(facts: &Facts, config: &BTreeMap<String, String>) -> Result<(), String> {
    for (_, value) in config.iter().filter(|(key, _)| is_net(key)) {
        if let Some(bridge) = Drive::parse(value).get("bridge").filter(|bridge| {
            let is_bridge = facts.bridges.iter().any(|name| name == bridge);
            !is_bridge && !facts.vnets.contains_key(*bridge)
        }) {
            return Err(format!("bridge '{bridge}' does not exist"));
        }
    }
    Ok(())
}

/// Put pending changes into force once a VM has been stopped by an API call.
pub fn settle(host: &Host, vmid: u32) -> Result<(), String> {
    let mut config = Config::load(host, vmid).map_err(|error| error.message)?;
    pending::apply(host, vmid, &mut config);
    config.save(host, vmid).map_err(|error| error.to_string())
}

/// POST status/stop.
pub fn stop(context: &Context, vmid: u32) -> ApiResult {
    if context.flag("overrule-shutdown") && Ha::read(&context.host.dir).manages(vmid) {
        return Err(ApiError::param(
            "overrule-shutdown",
            "Not applicable for HA resources.",
        ));
    }
    if let Some(upid) = ask_ha(context, vmid, "stop", Some(0)) {
        return upid;
    }
    let host = context.host.clone();
    let skiplock = context.flag("skiplock");
    let overrule = context.flag("overrule-shutdown");
    context.spawn("qmstop", &vmid.to_string(), move |log| async move {
        if overrule {
            let ended = host.tasks.cancel_all("qmshutdown", &vmid.to_string());
            if !ended.is_empty() {
                log.line(format!("overruled qmshutdown tasks: {}", ended.join(", ")));
            }
        }
        let _guard = host.lock_vm(vmid).await?;
        if !running(&host, vmid) {
            return Ok(());
        }
        let config = Config::load(&host, vmid).map_err(|error| error.message)?;
        if !skiplock {
            config.check_lock()?;
        }
        host.guests.stop(vmid).await;
        settle(&host, vmid)
    })
}

/// POST status/shutdown.
pub fn shutdown(context: &Context, vmid: u32) -> ApiResult {
    if let Some(upid) = ask_ha(context, vmid, "stop", context.number("timeout")) {
        return upid;
    }
    let host = context.host.clone();
    let timeout = context.number("timeout").unwrap_or(SHUTDOWN);
    let force = context.flag("forceStop");
    let skiplock = context.flag("skiplock");
    context.spawn("qmshutdown", &vmid.to_string(), move |log| async move {
        let _guard = host.lock_vm(vmid).await?;
        if !running(&host, vmid) {
            return Ok(());
        }
        let how = Down {
            timeout: Duration::from_secs(timeout),
            force,
            skiplock,
        };
        down(&host, vmid, how, &log).await
    })
}

/// How a guest is asked to power off.
struct Down {
    timeout: Duration,
    /// Whether it is ended when it does not obey.
    force: bool,
    skiplock: bool,
}

async fn down(host: &Host, vmid: u32, how: Down, log: &Log) -> Result<(), String> {
    let config = Config::load(host, vmid).map_err(|error| error.message)?;
    if !how.skiplock {
        config.check_lock()?;
    }
    let deadline = Instant::now() + how.timeout;
    let agent = options::agent_enabled(&config.current);
    if !host.guest_facts(vmid).os {
        // Nothing in the guest listens to ACPI.
    } else if agent
        && host
            .guests
            .agent(vmid, "guest-ping", json!({}))
            .await
            .is_err()
    {
        log.line(format!(
            "QEMU Guest Agent is not running - VM {vmid} qga command 'guest-ping' failed - got timeout"
        ));
        host.guests.powerdown(vmid, false).await?;
    } else {
        host.guests.powerdown(vmid, agent).await?;
    }
    while running(host, vmid) {
        if Instant::now() >= deadline {
            if !how.force {
                return Err("VM quit/powerdown failed - got timeout".into());
            }
            log.line("VM still running - terminating now with SIGTERM");
            host.guests.stop(vmid).await;
            break;
        }
        tokio::time::sleep(POLL).await;
    }
    settle(host, vmid)
}

/// POST status/reboot: the task ends while the VM is stopped; another one starts it.
pub fn reboot(context: &Context, vmid: u32) -> ApiResult {
    must_run(context, vmid)?;
    let host = context.host.clone();
    let timeout = context.number("timeout").unwrap_or(SHUTDOWN);
    context.spawn("qmreboot", &vmid.to_string(), move |log| async move {
        let guard = host.lock_vm(vmid).await?;
        let how = Down {
            timeout: Duration::from_secs(timeout),
            force: false,
            skiplock: false,
        };
        down(&host, vmid, how, &log).await?;
        drop(guard);
        tokio::spawn(async move {
            tokio::time::sleep(RESTART).await;
            start_task(
                &host,
                vmid,
                &Identity {
                    user: "root@pam".into(),
                    token: None,
                },
                None,
            );
        });
        Ok(())
    })
}

fn must_run(context: &Context, vmid: u32) -> Result<(), ApiError> {
    Config::load(&context.host, vmid)?;
    if running(&context.host, vmid) {
        Ok(())
    } else {
        Err(ApiError::failed(format!("VM {vmid} not running")))
    }
}

/// POST status/reset, suspend and resume.
pub fn simple(context: &Context, vmid: u32, action: &'static str) -> ApiResult {
    must_run(context, vmid)?;
    if context.flag("todisk") {
        return Err(ApiError::failed("the test host cannot suspend to disk"));
    }
    let host = context.host.clone();
    let skiplock = context.flag("skiplock");
    let kind = match action {
        "suspend" => "qmpause",
        "resume" => "qmresume",
        _ => "qmreset",
    };
    context.spawn(kind, &vmid.to_string(), move |_| async move {
        let _guard = host.lock_vm(vmid).await?;
        let config = Config::load(&host, vmid).map_err(|error| error.message)?;
        let of_backup = action == "resume" && config.has_lock("backup");
        if !(skiplock || of_backup) {
            config.check_lock()?;
        }
        match action {
            "suspend" => host.guests.suspend(vmid).await,
            "resume" => host.guests.resume(vmid).await,
            _ => host.guests.reset(vmid).await,
        }
    })
}

/// GET status: its children.
pub fn index() -> Value {
    [
        "current", "reboot", "reset", "resume", "shutdown", "start", "stop", "suspend",
    ]
    .map(|name| json!({"subdir": name}))
    .into_iter()
    .collect()
}
