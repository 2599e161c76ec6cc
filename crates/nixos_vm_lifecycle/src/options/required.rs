//! What an installation cannot do without.

use serde_json::{Map, Value};

/// The key of `nixos_vm_ipconfig` for the first NIC.
pub const FIRST: &str = "ipconfig0";

/// The prefix of the role's variables.
pub const PREFIX: &str = "nixos_vm_";

/// The variables that an installation needs and that are not there, as a new user's inventory lacks them.
pub fn not_filled_in(settings: &Map<String, Value>) -> Vec<String> {
    let text = |name: &str| match settings.get(name) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Some(Value::Array(list)) if list.is_empty() => None,
        Some(other) => Some(other.to_string()),
    };
    let env = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let given = ["api_token_id", "api_password"]
        .iter()
        .any(|name| text(name).is_some())
        || env("PROXMOX_TOKEN_ID")
        || env("PROXMOX_PASSWORD");
    let credential = (!given).then(|| {
        required(
            "api_token_id",
            "give an API token with nixos_vm_api_token_secret, or nixos_vm_api_user and nixos_vm_api_password",
        )
    });
    let is = |name: &str, values: &[&str]| {
        let text = text(name);
        text.as_deref()
            .map_or(values.contains(&""), |text| values.contains(&text))
    };
    let needs = Needs {
        by_image: is("method", &["image"]),
        iso: is("installer_source", &["", "path", "url"]),
        disk_image: is("disk_image_source", &["", "path", "url"]),
    };
    let ipconfig = settings.get("ipconfig");
    let has = |name: &str| match name {
        "ip" => text(name).is_some() || ipconfig.is_some_and(|nics| nics.get(FIRST).is_some()),
        _ => text(name).is_some(),
    };
    credential
        .into_iter()
        .chain(missing(|name| has(name), &needs))
        .collect()
}

/// What the sources of a new machine's system need.
pub struct Needs {
    /// Whether the system comes from a disk image, rather than from an installer.
    pub by_image: bool,
    /// Whether the source of the installer is a path or an address.
    pub iso: bool,
    /// Whether the source of the disk image is a path or an address.
    pub disk_image: bool,
}

/// What an installation needs and `has` not, beside the connection.
pub fn missing(has: impl Fn(&str) -> bool, needs: &Needs) -> Vec<String> {
    let by_image = needs.by_image;
    // An image may be built from its own variable.
    let flake = match by_image {
        true => !needs.disk_image && !has("disk_image_flake"),
        false => true,
    };
    [
        ("ip", true, "write dhcp, or an address with the length of its prefix, such as 192.0.2.11/24 or 2001:db8::11/64"),
        ("flake", flake, "write URI#NAME, for example github:me/infra#web1"),
        (
            "installer_iso",
            !by_image && needs.iso,
            "give the path or URL of the installer ISO, or set nixos_vm_installer_source to build or release",
        ),
        (
            "disk_image",
            by_image && needs.disk_image,
            "give the path or URL of the disk image, or set nixos_vm_disk_image_source: build",
        ),
    ]
    .into_iter()
    .filter(|(name, needed, _)| *needed && !has(name))
    .map(|(name, _, what)| required(name, what))
    .collect()
}

fn required(name: &str, what: &str) -> String {
    format!("{PREFIX}{name}: is required; {what}")
}
