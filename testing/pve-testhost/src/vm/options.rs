//! What PVE knows about single options: who may set them, how they are stored and how they are shown.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::drive::{Drive, bus, is_net};
use crate::error::ApiError;
use crate::schema;

/// What replaces a password in every answer.
const MASKED: &str = "**********";

/// Options written into the cloud-init drive.
pub fn is_cloudinit(key: &str) -> bool {
    matches!(
        key,
        "cicustom"
            | "cipassword"
            | "citype"
            | "ciuser"
            | "ciupgrade"
            | "nameserver"
            | "searchdomain"
            | "sshkeys"
    ) || key
        .strip_prefix("ipconfig")
        .is_some_and(|rest| rest.parse::<u8>().is_ok())
}

/// Options that take effect at once on a running VM.
pub fn is_immediate(key: &str) -> bool {
    is_cloudinit(key)
        || matches!(
            key,
            "name"
                | "description"
                | "tags"
                | "onboot"
                | "protection"
                | "startup"
                | "lock"
                | "hookscript"
                | "shares"
                | "vmstatestorage"
        )
}

/// Is the agent's device configured?
pub fn agent_enabled(config: &BTreeMap<String, String>) -> bool {
    config.get("agent").is_some_and(|value| {
        let keys = schema::property_string("agent", "agent", value);
        keys.is_ok_and(|keys| keys.get("enabled").is_some_and(|on| on == "1"))
    })
}

/// Is this a value that PVE passes over, so that the old one stays?
pub fn is_ignored(key: &str, value: &str) -> bool {
    key == "sshkeys" && value.is_empty()
}

/// Fail unless a hook script is an executable snippet.
pub fn check_hookscript(host: &crate::host::Host, volid: &str) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let file = host.volume_file(volid)?;
    if !volid.contains(":snippets/") {
        return Err(format!("'{volid}' is not in the snippets directory"));
    }
    let Ok(data) = std::fs::metadata(&file) else {
        return Err(format!("script '{volid}' does not exist"));
    };
    if data.permissions().mode() & 0o111 == 0 {
        return Err(format!("script '{volid}' is not executable"));
    }
    Ok(())
}

/// An option's value as PVE stores it. `old` is the value in force, if any.
pub fn normalize(key: &str, value: &str) -> Result<String, ApiError> {
    Ok(match key {
        // A new generation on request.
        "vmgenid" if value == "1" => crate::random::random_uuid(),
        "sshkeys" => {
            check_keys(value)?;
            value.to_owned()
        }
        _ if is_net(key) => net(value),
        _ if bus(key).is_some() => {
            let mut drive = Drive::parse(value);
            if drive.is_cdrom() || drive.is_cloudinit() {
                drive.set("media", "cdrom");
            } else if drive
                .volume()
                .is_some_and(|(_, name)| name.starts_with("iso/"))
            {
                return Err(ApiError::param(
                    key,
                    "explicit 'media=cdrom' is required for iso images",
                ));
            }
            drive.render()
        }
        _ => value.to_owned(),
    })
}

/// `virtio=MAC,bridge=...`: model and MAC first, the MAC upper-cased or made up.
fn net(value: &str) -> String {
    let Ok(mut keys) = schema::property_string("net", "net", value) else {
        return value.to_owned();
    };
    let model = keys.remove("model").unwrap_or_default();
    let mac = keys
        .remove("macaddr")
        .map_or_else(new_mac, |mac| mac.to_ascii_uppercase());
    let mut text = format!("{model}={mac}");
    for (key, value) in keys {
        text += &format!(",{key}={value}");
    }
    text
}

/// A NIC of a clone: the same with another address.
pub fn with_new_mac(value: &str) -> String {
    let mut parts = value.split(',');
    let first = parts.next().unwrap_or_default();
    let model = first.split('=').next().unwrap_or_default();
    std::iter::once(format!("{model}={}", new_mac()))
        .chain(parts.map(str::to_owned))
        .collect::<Vec<_>>()
        .join(",")
}

fn new_mac() -> String {
    let random = crate::random::random_hex(3).to_ascii_uppercase();
    format!(
        "BC:24:11:{}:{}:{}",
        &random[..2],
        &random[2..4],
        &random[4..]
    )
}

/// Every line must be a public key; blank lines are fine, comments are not.
fn check_keys(value: &str) -> Result<(), ApiError> {
    use base64::Engine as _;
    let text = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
    // The type and the key may come after options such as `no-pty`.
    let is_key = |(kind, blob): (&str, &str)| {
        let Ok(blob) = base64::engine::general_purpose::STANDARD.decode(blob) else {
            return false;
        };
        let length = blob
            .first_chunk::<4>()
            .map_or(0, |length| u32::from_be_bytes(*length) as usize);
        blob.get(4..4 + length)
            .is_some_and(|name| !name.is_empty() && name == kind.as_bytes())
    };
    let good = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.windows(2).any(|pair| is_key((pair[0], pair[1])))
    };
    if text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .all(good)
    {
        return Ok(());
    }
    Err(ApiError::failed("SSH public key validation error"))
}

/// A password as PUT config stores it: hashed with SHA-256-crypt unless it is a hash already (`$5$..`, `$6$..`,
/// `$2a$..`, `$2y$..`).
pub fn hash_password(value: &str) -> Result<String, ApiError> {
    use sha_crypt::PasswordHasher as _;
    let mut parts = value.split('$');
    if parts.next() == Some("")
        && matches!(parts.next(), Some("5" | "6" | "2a" | "2y"))
        && parts.next().is_some()
    {
        return Ok(value.to_owned());
    }
    // Eight characters once they are encoded.
    let salt = crate::random::random_hex(3);
    let hash =
        sha_crypt::ShaCrypt::SHA256.hash_password_with_salt(value.as_bytes(), salt.as_bytes());
    // The number of rounds is the usual one, of which crypt(3) says nothing.
    hash.map(|hash| hash.as_str().replace("$rounds=5000$", "$"))
        .map_err(|error| ApiError::failed(format!("cannot hash the password: {error}")))
}

/// A value as the answers show it: numbers for numeric options, passwords masked.
pub fn shown(key: &str, value: &str) -> Value {
    if key == "cipassword" {
        return json!(MASKED);
    }
    match schema::vm_option(key).map(|param| param.kind.as_str()) {
        Some("integer" | "boolean") => value
            .parse::<i64>()
            .map_or_else(|_| json!(value), |number| json!(number)),
        Some("number") => serde_json::from_str::<serde_json::Number>(value)
            .map_or_else(|_| json!(value), |number| json!(number)),
        _ => json!(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_as_stored() {
        let stored = |key, value| normalize(key, value).expect("a good value");
        assert_eq!(stored("ide2", "none"), "none,media=cdrom");
        assert_eq!(
            stored("ide0", "local:cloudinit"),
            "local:cloudinit,media=cdrom"
        );
        assert_eq!(
            stored("net0", "virtio=02:00:00:00:00:0a,firewall=1,bridge=vmbr0"),
            "virtio=02:00:00:00:00:0A,bridge=vmbr0,firewall=1"
        );
        assert!(stored("net0", "virtio,bridge=vmbr0").starts_with("virtio=BC:24:11:"));
        let error = normalize("ide2", "local:iso/x.iso").expect_err("no media=cdrom");
        assert_eq!(
            error.errors["ide2"],
            "explicit 'media=cdrom' is required for iso images"
        );
        let key = "ssh-ed25519%20AAAAC3NzaC1lZDI1NTE5AAAAIE2d4iOGEtUFAKpYqCbP8z9ZfS4cW2S3Y3y3FKqxUaRG%20x";
        let two = format!("{key}%0A{key}%0A");
        assert_eq!(stored("sshkeys", &two), two);
        let with_options = format!("no-pty%20{key}");
        assert_eq!(stored("sshkeys", &with_options), with_options);
        for bad in ["hello%20world", &format!("{key}%0A%23%20comment")] {
            assert_eq!(
                normalize("sshkeys", bad).expect_err("not a key").message,
                "SSH public key validation error"
            );
        }
        assert!(hash_password("secret").expect("hashed").starts_with("$5$"));
        assert_eq!(shown("cores", "2"), json!(2));
        assert_eq!(shown("memory", "512"), json!("512"));
        assert_eq!(shown("onboot", "1"), json!(1));
    }
}
