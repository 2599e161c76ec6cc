//! Storages and their content: lists, uploads, downloads, deletion.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::Context;
use super::checksum::checksum;
use crate::error::{ApiError, ApiResult};
use crate::storage::{Storage, check_name, normalize_name};
use crate::task::Log;

pub async fn handle(
    method: &str,
    template: &str,
    context: Context,
    file: Option<(PathBuf, u64)>,
) -> ApiResult {
    let rest = template.trim_start_matches("/nodes/{node}/storage");
    match (method, rest.trim_start_matches("/{storage}")) {
        ("GET", "") if rest.is_empty() => list(&context),
        ("GET", "/status") => status(&context),
        ("GET", "/content") => content(&context),
        ("POST", "/content") => allocate(&context).await,
        ("GET", "/content/{volume}") => volume(&context),
        ("DELETE", "/content/{volume}") => delete(&context).await,
        ("POST", "/upload") => match file {
            Some((path, size)) => upload(context, path, size),
            None => Err(ApiError::failed("upload failed")),
        },
        ("POST", "/download-url") => super::download::download(context),
        _ => Err(ApiError::not_implemented(method, template)),
    }
}

fn may_see(context: &Context, storage: &Storage) -> bool {
    context.may(
        &format!("/storage/{}", storage.id),
        &["Datastore.Audit", "Datastore.AllocateSpace"],
    )
}

fn list(context: &Context) -> ApiResult {
    let wanted: Option<Vec<&str>> = context.get("content").map(crate::formats::list);
    let mut found = Vec::new();
    for storage in context.host.storages() {
        let takes = wanted
            .as_ref()
            .is_none_or(|wanted| wanted.iter().any(|content| storage.takes(content)));
        let named = context.get("storage").is_none_or(|name| name == storage.id);
        if takes
            && named
            && may_see(context, storage)
            && (storage.enabled || (wanted.is_none() && !context.flag("enabled")))
        {
            let mut value = storage.status_json();
            value["storage"] = json!(storage.id);
            found.push(value);
        }
    }
    Ok(found.into())
}

fn status(context: &Context) -> ApiResult {
    let name = context.need("storage")?;
    let storage = context
        .host
        .storage(name)
        .map_err(|_| ApiError::param("storage", "No such storage."))?;
    let mut status = storage.status_json();
    if let Some(status) = status.as_object_mut() {
        status.remove("used_fraction");
    }
    Ok(status)
}

/// GET /storage: the configuration of all storages that the user may see.
pub fn configurations(context: &Context) -> ApiResult {
    let mut found: Vec<Value> = Vec::new();
    for host in context.host.nodes() {
        let visible = host.storages().iter();
        for storage in visible.filter(|storage| may_see(context, storage)) {
            let kind = json!(storage.kind);
            if context.get("type").is_none_or(|wanted| kind == wanted)
                && !found.iter().any(|known| known["storage"] == storage.id)
            {
                found.push(storage.config_json());
            }
        }
    }
    Ok(found.into())
}

/// GET /storage/ID.
pub fn configuration(context: &Context) -> ApiResult {
    let name = context.need("storage")?;
    let nodes = context.host.nodes();
    let mut found = nodes.iter().filter_map(|host| host.storage(name).ok());
    let found = found.next().map(Storage::config_json);
    found.ok_or_else(|| ApiError::failed(format!("storage '{name}' does not exist")))
}

fn content(context: &Context) -> ApiResult {
    let storage = context.host.storage(context.need("storage")?)?;
    storage.check_enabled().map_err(ApiError::failed)?;
    let wanted = context.get("content");
    let vmid = context.number("vmid");
    let volumes = storage.list();
    let shown = volumes.iter().filter(|volume| {
        wanted.is_none_or(|wanted| wanted == volume.content)
            && storage.takes(volume.content)
            // Other kinds that belong to no VM are listed all the same, but ISOs and templates are not.
            && vmid.is_none_or(|vmid| match volume.vmid {
                Some(owner) => u64::from(owner) == vmid,
                None => matches!(volume.content, "import" | "snippets"),
            })
    });
    Ok(shown.map(crate::storage::Volume::json).collect())
}

/// The storage and name of the volume in the path, which may be written with or without its storage.
fn volume_of(context: &Context) -> Result<(&Storage, String), ApiError> {
    let storage = context.need("storage")?;
    let text = context.need("volume")?;
    let name = match text.split_once(':') {
        Some((own, name)) if own == storage => name,
        Some((own, _)) => {
            let text = format!("storage ID mismatch ({own} != {storage})");
            return Err(ApiError::param("volume", text));
        }
        None => text,
    };
    Ok((context.host.storage(storage)?, name.to_owned()))
}

fn volume(context: &Context) -> ApiResult {
    let (storage, name) = volume_of(context)?;
    storage.check_enabled().map_err(ApiError::failed)?;
    let parsed = storage.parse(&name).map_err(ApiError::failed)?;
    if !may_see(context, storage) {
        return Err(ApiError::forbidden(
            &format!("/storage/{}", storage.id),
            "Datastore.AllocateSpace|Datastore.Audit",
        ));
    }
    let path = storage.path.join(&parsed.file);
    let volid = format!("{}:{name}", storage.id);
    let Some(size) = crate::disk::virtual_size(&path) else {
        return Err(ApiError::failed(format!(
            "volume_size_info on '{volid}' failed - no format"
        )));
    };
    let used = std::fs::metadata(&path).map_or(0, |meta| {
        std::os::unix::fs::MetadataExt::blocks(&meta) * 512
    });
    let format = if parsed.format == "iso" {
        "raw"
    } else {
        &parsed.format
    };
    Ok(json!({"path": path, "size": size.div_ceil(512) * 512, "used": used, "format": format}))
}

async fn allocate(context: &Context) -> ApiResult {
    let storage = context.host.storage(context.need("storage")?)?;
    storage.check_enabled().map_err(ApiError::failed)?;
    let size = context.need("size")?;
    // Without a unit it is kilobytes.
    let bytes = match size.strip_suffix(['M', 'G']) {
        Some(_) => crate::disk::parse_size(size),
        None => size.parse::<u64>().ok().map(|size| size << 10),
    };
    let bytes =
        bytes.ok_or_else(|| ApiError::param("size", "value does not match the regex pattern"))?;
    let name = context.need("filename")?;
    let vmid = context.vmid()?;
    let name = if storage.kind == crate::storage::Kind::Dir {
        format!("{vmid}/{name}")
    } else {
        name.to_owned()
    };
    let parsed = storage.parse(&name).map_err(ApiError::failed)?;
    crate::disk::create(&storage.path.join(parsed.file), &parsed.format, bytes)
        .await
        .map_err(ApiError::failed)?;
    Ok(json!(format!("{}:{name}", storage.id)))
}

async fn delete(context: &Context) -> ApiResult {
    let (storage, name) = volume_of(context)?;
    storage.check_enabled().map_err(ApiError::failed)?;
    let parsed = storage.parse(&name).map_err(ApiError::failed)?;
    // AllocateTemplate, by which it was uploaded, is not enough.
    context.host.access.check(
        &context.who,
        &format!("/storage/{}", storage.id),
        &["Datastore.Allocate"],
    )?;
    let volid = format!("{}:{name}", storage.id);
    let id = match parsed.vmid {
        Some(vmid) => format!("{vmid}@{}", storage.id),
        None => storage.id.clone(),
    };
    let path = storage.path.join(parsed.file);
    let in_folders = storage.kind == crate::storage::Kind::Dir;
    let upid = context.spawn("imgdel", &id, move |log| async move {
        match std::fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                log.line(format!("disk image '{}' does not exist", path.display()));
            }
            Err(error) => return Err(format!("unlink '{}' failed: {error}", path.display())),
        }
        log.line(format!("Removed volume '{volid}'"));
        // The last one takes the directory along; the next one makes it again.
        if let Some(folder) = path.parent().filter(|_| in_folders) {
            let _ = std::fs::remove_dir(folder);
        }
        Ok(())
    })?;
    if let (Some(delay), Some(upid)) = (context.number("delay"), upid.as_str())
        && context
            .host
            .tasks
            .wait(upid, Duration::from_secs(delay))
            .await
        && context
            .host
            .tasks
            .get(upid)
            .is_some_and(|task| task.succeeded())
    {
        return Ok(Value::Null);
    }
    Ok(upid)
}

fn upload(context: Context, file: PathBuf, size: u64) -> ApiResult {
    let storage = context.host.storage(context.need("storage")?)?.clone();
    storage.check_enabled().map_err(ApiError::failed)?;
    let content = context.need("content")?.to_owned();
    if !storage.takes(&content) {
        return Err(ApiError::failed(format!(
            "storage '{}' does not support '{content}' content",
            storage.id
        )));
    }
    let name = normalize_name(context.need("filename")?);
    check_name(&content, &name)?;
    let target = storage.folder(&content).join(&name);
    let algorithm = context.get("checksum-algorithm").map(str::to_owned);
    let wanted = context.get("checksum").map(str::to_owned);
    let node = context.host.node.clone();
    let slow = context.interrupt.slow;
    context.spawn("imgcopy", "", move |log| async move {
        log.line(format!("starting file import from: {}", file.display()));
        log.line(format!("target node: {node}"));
        log.line(format!("target file: {}", target.display()));
        log.line(format!("file size is: {size}"));
        let result = import(
            &log,
            &file,
            &target,
            algorithm.as_deref(),
            wanted.as_deref(),
            slow,
        )
        .await;
        let _ = std::fs::remove_file(&file);
        if result.is_ok() {
            log.line("finished file import successfully");
        }
        result
    })
}

async fn import(
    log: &Log,
    file: &Path,
    target: &Path,
    algorithm: Option<&str>,
    wanted: Option<&str>,
    slow: Duration,
) -> Result<(), String> {
    if let (Some(algorithm), Some(wanted)) = (algorithm, wanted) {
        let got = checksum(file, algorithm).await?;
        if !got.eq_ignore_ascii_case(wanted) {
            log.line("calculating checksum...");
            return Err(format!(
                "checksum mismatch: got '{got}' != expect '{wanted}'"
            ));
        }
        log.line("calculating checksum...OK, checksum verified");
    }
    if crate::disk::has_backing_file(file) {
        return Err(format!(
            "backing file not allowed for untrusted image {}",
            file.display()
        ));
    }
    // An import has the format that its name ends in: file_size_info of PVE::Storage::Plugin.
    if !crate::disk::has_format_of_name(file, target) {
        return Err("failed to query file information with qemu-img".into());
    }
    copy_over(file, target, slow).await
}

/// Overwrite in place, as cp does: whoever has the target open sees the new bytes, its size grows meanwhile.
async fn copy_over(from: &Path, to: &Path, slow: Duration) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("unable to copy to '{}': {error}", to.display());
    let (from, to_path) = (from.to_owned(), to.to_owned());
    tokio::task::spawn_blocking(move || {
        let mut source = std::fs::File::open(from)?;
        if let Some(folder) = to_path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut target = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(to_path)?;
        if !slow.is_zero() {
            let pieces = 10;
            let size = source.metadata()?.len();
            for _ in 0..pieces {
                let mut piece = std::io::Read::take(&mut source, size.div_ceil(pieces));
                std::io::copy(&mut piece, &mut target)?;
                std::thread::sleep(slow / pieces as u32);
            }
        }
        std::io::copy(&mut source, &mut target).map(|_| ())
    })
    .await
    .map_err(|error| error.to_string())?
    .map_err(failed)
}
