//! Downloads from a URL: the node's own, and what a URL tells of itself.

use std::path::Path;

use serde_json::json;

use super::Context;
use super::checksum::checksum;
use crate::error::{ApiError, ApiResult};
use crate::storage::{check_name, normalize_name};
use crate::task::Log;

/// POST download-url.
pub fn download(context: Context) -> ApiResult {
    let storage = context.host.storage(context.need("storage")?)?.clone();
    storage.check_enabled().map_err(ApiError::failed)?;
    let content = context.need("content")?.to_owned();
    if !storage.takes(&content) {
        return Err(ApiError::failed(format!(
            "storage '{}' is not configured for content-type '{content}'",
            storage.id
        )));
    }
    let name = normalize_name(context.need("filename")?);
    check_name(&content, &name)?;
    let target = storage.folder(&content).join(&name);
    let url = context.need("url")?.to_owned();
    let verify = context.get("verify-certificates") != Some("0");
    let compression = context.get("compression").map(str::to_owned);
    let algorithm = context.get("checksum-algorithm").map(str::to_owned);
    let wanted = context.get("checksum").map(str::to_owned);
    context.spawn("download", &name, move |log| async move {
        log.line(format!("downloading {url} to {}", target.display()));
        if target.exists() {
            let (Some(algorithm), Some(wanted)) = (&algorithm, &wanted) else {
                return Err(format!(
                    "refusing to override existing file '{}'",
                    target.display()
                ));
            };
            let got = checksum(&target, algorithm).await?;
            if !got.eq_ignore_ascii_case(wanted) {
                return Err(format!(
                    "checksum mismatch: got '{got}' != expect '{wanted}', aborting"
                ));
            }
            log.line("got correct file already, no need to download");
            return Ok(());
        }
        let partial = target.with_file_name(format!(
            ".{}.tmp_dwnl",
            target.file_name().unwrap_or_default().to_string_lossy()
        ));
        let result = async {
            if let Some(folder) = partial.parent() {
                std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
            }
            fetch(&url, &partial, verify).await?;
            if let (Some(algorithm), Some(wanted)) = (&algorithm, &wanted) {
                log.line(format!("calculating checksum...{algorithm}"));
                let got = checksum(&partial, algorithm).await?;
                if !got.eq_ignore_ascii_case(wanted) {
                    return Err(format!(
                        "checksum mismatch: got '{got}' != expect '{wanted}'"
                    ));
                }
            }
            if let Some(compression) = &compression {
                decompress(&log, compression, &partial).await?;
            }
            std::fs::rename(&partial, &target).map_err(|error| error.to_string())
        }
        .await;
        let _ = std::fs::remove_file(&partial);
        if result.is_ok() {
            log.line(format!(
                "download of '{url}' to '{}' finished",
                target.display()
            ));
        }
        result
    })
}

/// Replace a downloaded file by what it decompresses to.
async fn decompress(log: &Log, compression: &str, file: &Path) -> Result<(), String> {
    let words: &[&str] = match compression {
        "gz" => &["zcat"],
        "lzo" => &["lzop", "-d", "-c"],
        "zst" => &["zstd", "-q", "-d", "-c"],
        "bz2" => &["bzcat"],
        other => return Err(format!("unknown compression '{other}'")),
    };
    log.line(format!("decompressing downloaded file with {}", words[0]));
    let plain = file.with_extension("plain");
    let output = std::fs::File::create(&plain).map_err(|error| error.to_string())?;
    let status = tokio::process::Command::new(words[0])
        .args(&words[1..])
        .arg(file)
        .stdin(std::process::Stdio::null())
        .stdout(output)
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .status()
        .await
        .map_err(|error| format!("cannot run {}: {error}", words[0]))?;
    if !status.success() {
        let _ = std::fs::remove_file(&plain);
        return Err(format!(
            "command '{} {}' failed: exit code {}",
            words.join(" "),
            file.display(),
            status.code().unwrap_or(1)
        ));
    }
    std::fs::rename(&plain, file).map_err(|error| error.to_string())
}

/// What a HEAD request tells of a URL: size, type, name.
pub async fn url_metadata(context: &Context) -> ApiResult {
    let mut command = tokio::process::Command::new("curl");
    command.args(["--silent", "--head", "--location", "--write-out"]);
    command.arg("\n%{http_code} %header{content-length} %header{content-type}");
    if context.get("verify-certificates") == Some("0") {
        command.arg("--insecure");
    }
    let output = command
        .arg("--")
        .arg(context.need("url")?)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| ApiError::failed(format!("cannot run curl: {error}")))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut words = text.lines().last().unwrap_or_default().splitn(3, ' ');
    let status = words.next().unwrap_or_default();
    if status != "200" {
        let reason = text.lines().find_map(|line| {
            let (_, rest) = line.strip_prefix("HTTP/")?.split_once(' ')?;
            rest.starts_with(status).then_some(rest)
        });
        return Err(ApiError::failed(format!(
            "invalid server response: '{}'",
            reason.unwrap_or(status).trim()
        )));
    }
    let url = context.need("url")?;
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let name = text.lines().rev().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        let name = value.split_once("filename=")?.1.split(';').next()?;
        key.eq_ignore_ascii_case("content-disposition")
            .then(|| name.trim().trim_matches('"'))
    });
    let name = name.or_else(|| url.rsplit('/').next()).unwrap_or_default();
    let mut found = json!({"filename": normalize_name(name)});
    if let Some(size) = words.next().and_then(|size| size.parse::<u64>().ok()) {
        found["size"] = json!(size);
    }
    if let Some(kind) = words.next().filter(|kind| !kind.is_empty()) {
        found["mimetype"] = json!(kind);
    }
    Ok(found)
}

/// Download with curl; failures end as wget's do in PVE: 8 = the server answered with an error.
async fn fetch(url: &str, target: &Path, verify: bool) -> Result<(), String> {
    let mut command = tokio::process::Command::new("curl");
    command
        .args([
            "--silent",
            "--show-error",
            "--fail",
            "--location",
            "--output",
        ])
        .arg(target);
    if !verify {
        command.arg("--insecure");
    }
    command
        .arg("--")
        .arg(url)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null());
    let status = command
        .kill_on_drop(true)
        .status()
        .await
        .map_err(|error| format!("cannot run curl: {error}"))?;
    match status.code() {
        Some(0) => Ok(()),
        Some(22) => Err("download failed: exit code 8".into()),
        Some(6 | 7) => Err("download failed: exit code 4".into()),
        Some(35 | 51 | 60) => Err("download failed: exit code 5".into()),
        code => Err(format!("download failed: exit code {}", code.unwrap_or(1))),
    }
}
