use serde_json::Value;

use super::*;
use crate::options::{InstallerSource, PREFIX};

#[test]
fn options_of_the_iso_have_variables() {
    use InstallerSource::{Build, Release, Url};
    for (source, option, variable) in [
        (Url, "url", "nixos_vm_installer_iso"),
        (Url, "checksum", "nixos_vm_installer_checksum"),
        (Build, "src", "nixos_vm_installer_flake"),
        (Release, "github_release.token", "nixos_vm_installer_token"),
        (Url, "node", "nixos_vm_node"),
        (Url, "cache_dir", "nixos_vm_iso_options.cache_dir"),
    ] {
        assert_eq!(iso_variable(source, option), variable);
    }
    let names = schemars::schema_for!(Settings);
    let properties = names.get("properties").and_then(Value::as_object).unwrap();
    for option in [
        "src",
        "url",
        "checksum",
        "name",
        "storage",
        "node",
        "github_release.tag",
    ] {
        let variable = iso_variable(Url, option);
        let name = variable.strip_prefix(PREFIX).unwrap();
        assert!(properties.contains_key(name), "{variable}");
    }
}
