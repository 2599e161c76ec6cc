//! What PVE lets only `root@pam` with its password set, said before anything is changed.

use pve_client::property::PropertyString;
use pve_schema::syntax;

use crate::config::drive;
use crate::error::Error;
use crate::plan::Plan;

/// The one user who may do these things. Its API tokens may not.
const ROOT: &str = "root@pam";

/// Refuse a plan that changes what PVE would not let `caller` change.
///
/// # Errors
/// [`Error::RootOnly`].
pub fn check(plan: &Plan, caller: &str, object: &str) -> Result<(), Error> {
    if caller == ROOT {
        return Ok(());
    }
    let set = plan
        .set
        .iter()
        .filter(|(key, value)| is_roots(key, value))
        .map(|(key, _)| key);
    // Who may not set a value may not remove it either.
    let before = |key: &&String| plan.before.get(*key).and_then(|value| value.as_str());
    let deleted = plan
        .delete
        .iter()
        .filter(|key| before(key).is_some_and(|value| is_roots(key, value)));
    let names: Vec<&str> = set.chain(deleted).map(String::as_str).collect();
    if names.is_empty() {
        return Ok(());
    }
    let has_mapping = names
        .iter()
        .any(|name| name.starts_with("hostpci") || name.starts_with("usb"));
    Err(Error::RootOnly {
        root: ROOT,
        keys: names.join(", "),
        object: object.to_owned(),
        caller: caller.to_owned(),
        has_mapping,
    })
}

fn is_roots(key: &str, value: &str) -> bool {
    let parts = PropertyString::parse(value, Some("host"));
    let has = |name: &str| parts.as_ref().is_ok_and(|parts| parts.get(name).is_some());
    let numbered = |stem: &str| key.strip_prefix(stem).is_some_and(syntax::is_index);
    if numbered("serial") {
        value != "socket"
    } else if numbered("hostpci") {
        !has("mapping")
    } else if numbered("usb") {
        let spice = parts.as_ref().is_ok_and(|parts| {
            parts
                .get("host")
                .is_some_and(|host| host.eq_ignore_ascii_case("spice"))
        });
        !has("mapping") && !spice
    } else if drive::is_key(key) {
        let parts = PropertyString::parse(value, Some("file"));
        let is_path = |name: &str| {
            parts
                .as_ref()
                .is_ok_and(|parts| parts.get(name).is_some_and(|path| path.starts_with('/')))
        };
        is_path("file") || is_path("import-from")
    } else {
        pve_schema::parameter(key).is_some_and(|row| row.root_only)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_root_may() {
        for (key, value, roots) in [
            ("args", "-x", true),
            ("hookscript", "local:snippets/a", true),
            ("spice_enhancements", "foldersharing=1", true),
            ("hugepages", "2", true),
            ("affinity", "0-3", true),
            ("memory", "512", false),
            ("startup", "order=1", false),
            ("serial0", "socket", false),
            ("serial1", "/dev/ttyS0", true),
            ("parallel0", "/dev/parport0", true),
            ("hostpci0", "mapping=gpu,pcie=1", false),
            ("hostpci0", "0000:01:00.0,pcie=1", true),
            ("usb0", "host=1234:5678", true),
            ("usb0", "spice", false),
            ("usb0", "host=SPICE,usb3=1", false),
            ("usb1", "mapping=key", false),
            ("scsi0", "local:0,import-from=/tmp/x.raw", true),
            ("scsi0", "local:0,import-from=local:import/x.raw", false),
            ("scsi1", "/dev/sdb", true),
            ("ide2", "none,media=cdrom", false),
        ] {
            assert_eq!(is_roots(key, value), roots, "{key}: {value}");
        }
        let mut plan = Plan::default();
        plan.set.insert("memory".into(), "512".into());
        assert!(check(&plan, "a@pve!t", "VM 1").is_ok());
        plan.delete.insert("args".into());
        plan.before.insert("args".into(), "-x".into());
        assert!(check(&plan, "root@pam", "VM 1").is_ok());
        let refused = check(&plan, "root@pam!t", "VM 1").unwrap_err();
        assert_eq!(
            refused.to_string(),
            "PVE lets only root@pam, logged in with a password, change args of VM 1 so; this is root@pam!t"
        );
    }
}
