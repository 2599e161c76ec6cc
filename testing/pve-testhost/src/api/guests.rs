//! Calls about one VM, and the list of VMs.

use serde_json::{Value, json};

use super::{Context, Reply, snapshot};
use crate::console;
use crate::error::{ApiError, ApiResult};
use crate::vm::config::Config;
use crate::vm::{self, cloudinit, power};

/// GET /nodes/N/qemu: silently without those the user may not see.
pub fn list(context: &Context) -> ApiResult {
    let may = |vmid: &u32| context.may(&format!("/vms/{vmid}"), &["VM.Audit"]);
    let host = &context.host;
    let entries = vm::ids(host)
        .into_iter()
        .filter(may)
        .filter_map(|vmid| vm::status::summary(host, vmid).ok());
    Ok(entries.collect::<Vec<Value>>().into())
}

/// `rest` is what follows `/nodes/{node}/qemu/{vmid}`.
pub async fn handle(method: &str, rest: &str, context: Context) -> Result<Reply, ApiError> {
    let vmid = context.vmid()?;
    let host = context.host.clone();
    let data = match (method, rest) {
        ("GET", "") => Ok([
            "agent",
            "clone",
            "cloudinit",
            "config",
            "feature",
            "migrate",
            "move_disk",
            "pending",
            "resize",
            "snapshot",
            "status",
            "template",
            "termproxy",
            "unlink",
            "vncwebsocket",
        ]
        .map(|name| json!({"subdir": name}))
        .into_iter()
        .collect()),
        ("DELETE", "") => vm::destroy::destroy(&context, vmid),
        ("GET", "/config") => config(&context, vmid),
        ("PUT", "/config") => vm::update::update(context, true).await,
        ("POST", "/config") => vm::update::update(context, false).await,
        ("GET", "/pending") => Ok(vm::pending::list(&Config::load(&host, vmid)?)),
        ("PUT", "/unlink") => vm::update::unlink(context).await,
        ("PUT", "/resize") => vm::update::resize(context).await,
        ("POST", "/template") => vm::template::template(context).await,
        ("POST", "/clone") => vm::copy::clone(context).await,
        ("POST", "/move_disk") => vm::copy::move_disk(context).await,
        ("GET", "/migrate") => vm::migrate::preconditions(&context, vmid),
        ("POST", "/migrate") => vm::migrate::migrate(&context, vmid),
        ("GET", "/feature") => snapshot::feature(&context, vmid),
        (_, rest) if rest.starts_with("/snapshot") => {
            let rest = rest.trim_start_matches("/snapshot");
            snapshot::handle(method, rest, context).await
        }
        ("POST", "/termproxy") => console::termproxy(&context, vmid),
        ("GET", "/vncwebsocket") => console::websocket(&context, vmid),
        ("GET", "/cloudinit") => cloudinit::pending(&host, vmid),
        ("PUT", "/cloudinit") => cloudinit::regenerate(&host, vmid).await,
        ("GET", "/cloudinit/dump") => cloudinit::dump(&host, vmid, context.need("type")?),
        ("GET", "/status") => Ok(power::index()),
        ("GET", "/status/current") => vm::status::current(&host, vmid).await,
        ("POST", "/status/start") => power::start(&context, vmid),
        ("POST", "/status/stop") => power::stop(&context, vmid),
        ("POST", "/status/shutdown") => power::shutdown(&context, vmid),
        ("POST", "/status/reboot") => power::reboot(&context, vmid),
        ("POST", "/status/reset") => power::simple(&context, vmid, "reset"),
        ("POST", "/status/suspend") => power::simple(&context, vmid, "suspend"),
        ("POST", "/status/resume") => power::simple(&context, vmid, "resume"),
        _ => Err(ApiError::not_implemented(method, rest)),
    };
    data.map(Reply::Data)
}

/// GET config: with pending changes, or (`current=1`) without.
fn config(context: &Context, vmid: u32) -> ApiResult {
    let config = Config::load(&context.host, vmid)?;
    if let Some(name) = context.get("snapshot") {
        if context.get("current").is_some() {
            let text = "cannot use 'snapshot' parameter with 'current'";
            let both = ["snapshot", "current"].map(|name| (name.to_owned(), text.to_owned()));
            return Err(ApiError::params(both.into()));
        }
        return snapshot::config_of(&config, name);
    }
    Ok(vm::create::config_json(&config, context.flag("current")))
}
