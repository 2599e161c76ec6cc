//! Sizes as PVE writes them, and image files.

use std::path::Path;
use std::process::Stdio;

/// Bytes of `32G`, `528K`, `1.5T`; plain numbers are bytes.
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = match text.char_indices().last()? {
        (at, 'K') => (&text[..at], 1_u64 << 10),
        (at, 'M') => (&text[..at], 1 << 20),
        (at, 'G') => (&text[..at], 1 << 30),
        (at, 'T') => (&text[..at], 1 << 40),
        _ => (text, 1),
    };
    if number.is_empty()
        || !number
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "sizes of disks"
    )]
    number
        .parse::<f64>()
        .ok()
        .map(|number| (number * unit as f64) as u64)
}

/// The shortest exact spelling with one of PVE's units.
pub fn format_size(bytes: u64) -> String {
    for (shift, unit) in [(40, 'T'), (30, 'G'), (20, 'M'), (10, 'K')] {
        if bytes >= 1 << shift && bytes.is_multiple_of(1 << shift) {
            // PVE never climbs to T.
            let (bytes, unit) = if unit == 'T' {
                (bytes >> 30, 'G')
            } else {
                (bytes >> shift, unit)
            };
            return format!("{bytes}{unit}");
        }
    }
    bytes.to_string()
}

/// Is `qemu-img` on this machine?
fn has_qemu_img() -> bool {
    static FOUND: std::sync::LazyLock<bool> = std::sync::LazyLock::new(|| {
        let probe = std::process::Command::new("qemu-img")
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        probe.is_ok_and(|status| status.success())
    });
    *FOUND
}

async fn qemu_img(arguments: &[&str]) -> Result<(), String> {
    let output = tokio::process::Command::new("qemu-img")
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| format!("cannot run qemu-img: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

/// Make an empty image. Raw images are sparse files.
pub async fn create(path: &Path, format: &str, size: u64) -> Result<(), String> {
    if path.exists() {
        return Err(format!("disk image '{}' already exists", path.display()));
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)
            .map_err(|error| format!("mkdir {}: {error}", parent.display()))?;
    }
    if format == "raw" {
        let make = || std::fs::File::create_new(path)?.set_len(size);
        return make().map_err(|error| format!("cannot create '{}': {error}", path.display()));
    }
    if !has_qemu_img() {
        return Err(format!(
            "format '{format}' needs qemu-img, which is not installed"
        ));
    }
    qemu_img(&[
        "create",
        "-q",
        "-f",
        format,
        &path.to_string_lossy(),
        &size.to_string(),
    ])
    .await
}

/// Grow an image.
pub async fn resize(path: &Path, format: &str, size: u64) -> Result<(), String> {
    if format == "raw" {
        let grow = || {
            std::fs::OpenOptions::new()
                .write(true)
                .open(path)?
                .set_len(size)
        };
        return grow().map_err(|error| format!("cannot resize '{}': {error}", path.display()));
    }
    qemu_img(&[
        "resize",
        "-f",
        format,
        &path.to_string_lossy(),
        &size.to_string(),
    ])
    .await
}

/// Create (`-c`), delete (`-d`) or apply (`-a`) a snapshot inside a qcow2 image.
pub async fn snapshot(path: &Path, operation: &str, name: &str) -> Result<(), String> {
    qemu_img(&["snapshot", operation, name, &path.to_string_lossy()])
        .await
        .map_err(|error| {
            format!(
                "command '/usr/bin/qemu-img snapshot {operation} {name} {}' failed: {error}",
                path.display()
            )
        })
}

/// Copy an image with its holes, into the same file if there is one.
pub async fn copy_sparse(from: &Path, to: &Path) -> Result<(), String> {
    let output = tokio::process::Command::new("cp")
        .args(["--sparse=always", "--reflink=auto", "--"])
        .args([from, to])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| format!("cannot run cp: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

/// The format that the name of an image file stands for.
pub fn format_of(path: &Path) -> &'static str {
    match path.extension().is_some_and(|end| end == "qcow2") {
        true => "qcow2",
        false => "raw",
    }
}

/// Copy `source` into a new image of at least its size. `format` is the source's.
pub async fn import(source: &Path, format: &str, target: &Path) -> Result<(), String> {
    convert(source, &["-f", format], target).await
}

/// Copy what a snapshot inside a qcow2 image holds into a new image.
pub async fn import_snapshot(source: &Path, name: &str, target: &Path) -> Result<(), String> {
    let snapshot = format!("snapshot.name={name}");
    convert(source, &["-f", "qcow2", "-l", &snapshot], target).await
}

async fn convert(source: &Path, how: &[&str], target: &Path) -> Result<(), String> {
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent)
            .map_err(|error| format!("mkdir {}: {error}", parent.display()))?;
    }
    let (from, to) = (source.to_string_lossy(), target.to_string_lossy());
    let rest = ["-O", format_of(target), &from, &to];
    qemu_img(&[&["convert"], how, &rest].concat()).await
}

/// Make a qcow2 image that shows what `base` has, until it is written to.
pub async fn overlay(base: &Path, target: &Path) -> Result<(), String> {
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent)
            .map_err(|error| format!("mkdir {}: {error}", parent.display()))?;
    }
    qemu_img(&[
        "create",
        "-q",
        "-f",
        "qcow2",
        "-b",
        &base.to_string_lossy(),
        "-F",
        format_of(base),
        &target.to_string_lossy(),
    ])
    .await
}

/// Write the bytes of an ISO as a cloud-init drive of PVE's size, 4 MiB, converted to qcow2 where the name says so.
/// Without `qemu-img` the content is raw whatever the name says.
pub async fn write_cloudinit(path: &Path, iso: &[u8]) -> Result<(), String> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)
            .map_err(|error| format!("mkdir {}: {error}", parent.display()))?;
    }
    let raw = path.with_extension("iso.tmp");
    let write = || {
        use std::os::unix::fs::OpenOptionsExt;
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&raw)?;
        std::io::Write::write_all(&mut file, iso)?;
        file.set_len((iso.len() as u64).max(4 << 20))
    };
    write().map_err(|error| format!("cannot write '{}': {error}", raw.display()))?;
    let mut result = Ok(());
    if format_of(path) == "qcow2" && has_qemu_img() {
        // With -S 0 every cluster is allocated in order, so that all such images have the same layout.
        let converted = path.with_extension("qcow2.tmp");
        let (from, to) = (raw.to_string_lossy(), converted.to_string_lossy());
        result = qemu_img(&[
            "convert", "-q", "-S", "0", "-f", "raw", "-O", "qcow2", &from, &to,
        ])
        .await;
        let _ = std::fs::rename(&converted, &raw);
    }
    // In place: a running guest has the file open, and only data clusters change under it.
    if result.is_ok() {
        let write = || {
            let content = std::fs::read(&raw)?;
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)?;
            std::io::Write::write_all(&mut file, &content)?;
            file.set_len(content.len() as u64)
        };
        result = write().map_err(|error| format!("cannot write '{}': {error}", path.display()));
    }
    let _ = std::fs::remove_file(&raw);
    result
}

/// Virtual size of an image: the file's size for raw, what its header says for qcow2.
pub fn virtual_size(path: &Path) -> Option<u64> {
    use std::io::Read;
    let mut header = [0_u8; 32];
    let mut file = std::fs::File::open(path).ok()?;
    let read = file.read(&mut header).ok()?;
    if read == header.len() && header.starts_with(b"QFI\xfb") {
        return Some(u64::from_be_bytes(header[24..32].try_into().ok()?));
    }
    Some(file.metadata().ok()?.len())
}

/// Is this file of the format that the name of `target` ends in? Whatever has no header is raw.
pub fn has_format_of_name(file: &Path, target: &Path) -> bool {
    use std::io::Read;
    let magic: &[u8] = match target.extension().and_then(std::ffi::OsStr::to_str) {
        Some("qcow2") => b"QFI\xfb",
        Some("vmdk") => b"KDMV",
        _ => return true,
    };
    let mut header = [0_u8; 4];
    let read = std::fs::File::open(file).and_then(|mut file| file.read_exact(&mut header));
    read.is_ok() && header == magic
}

/// Does this file name a backing file (which an untrusted image may not)?
pub fn has_backing_file(path: &Path) -> bool {
    use std::io::Read;
    let mut header = [0_u8; 16];
    let read = std::fs::File::open(path).and_then(|mut file| file.read(&mut header));
    read.is_ok_and(|read| read == 16) && header.starts_with(b"QFI\xfb") && header[8..16] != [0; 8]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("2G"), Some(2 << 30));
        assert_eq!(parse_size("528K"), Some(528 << 10));
        assert_eq!(parse_size("x"), None);
        assert_eq!(format_size(2 << 30), "2G");
        assert_eq!(format_size(528 << 10), "528K");
        assert_eq!(format_size(360_448), "352K");
        assert_eq!(format_size(2 << 40), "2048G");
        assert_eq!(format_size(50_000), "50000");
    }
}
