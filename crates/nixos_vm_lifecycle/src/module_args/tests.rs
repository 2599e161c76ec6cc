use pve_module::record::Phase;
use serde_json::{Value, json};

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

#[test]
fn ha_sees_to_finished_machines_only() {
    let ha = json!({"rule": "west"});
    let with = |ha: &Value| Settings::with(json!({"vm_options": {"ha": ha}}));
    let settings = with(&ha);
    assert_eq!(settings.vm(Phase::Done, None)["ha"], ha);
    assert_eq!(settings.finished(Phase::Done, |_| false)["ha"], ha);
    for phase in [Phase::Creating, Phase::Provisioning, Phase::Installed] {
        assert_eq!(settings.vm(phase, None).get("ha"), None);
    }
    // One that is installed anew may be known.
    for phase in [Phase::Reinstalling, Phase::Installing] {
        assert_eq!(
            settings.reinstalled(phase, None)["ha"],
            json!({"state": "ignored"})
        );
    }
    assert_eq!(settings.reinstalled(Phase::Installed, None).get("ha"), None);
    assert_eq!(high_availability(&settings, false), Some(ha));
    assert_eq!(
        high_availability(&settings, true),
        Some(json!({"rule": "west", "state": "started"}))
    );
    let absent = with(&json!({"state": "absent"}));
    assert_eq!(absent.reinstalled(Phase::Installing, None).get("ha"), None);
    assert_eq!(high_availability(&with(&Value::Null), true), None);
}
