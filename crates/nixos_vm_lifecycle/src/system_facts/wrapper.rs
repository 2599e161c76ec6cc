//! The flake around the user's, which hands the facts to the configuration. Its text is always the same: what differs is data.

use std::path::Path;

use nixos_anywhere_install::FlakeParts;
use pve_module::paths::make_private_dir;
use serde_json::{Value, json};

use super::facts;
use crate::error::LocalError;
use crate::module_args::Args;
use crate::options::{Settings, SystemFacts};
use crate::store::{failed, write_private};

const FLAKE: &str = include_str!("flake.nix");

/// Have these options of `nixos_anywhere_install` build the configuration through a wrapper in `dir`, if the variables want one. A
/// reference that cannot be read is left to the module, which says what is wrong.
///
/// # Errors
/// Kind `file`.
pub fn wrap(settings: &Settings, args: &mut Args, dir: &Path) -> Result<(), LocalError> {
    let flake = settings.flake.as_deref().unwrap_or_default();
    let Ok(parts) = FlakeParts::parse(flake) else {
        return Ok(());
    };
    if settings.system_facts != SystemFacts::Wrapper {
        return Ok(());
    }
    make_private_dir(dir).map_err(|error| failed("make", dir, error))?;
    let machine = json!({"name": parts.name});
    for (name, text) in [
        ("flake.nix", FLAKE.to_owned()),
        ("facts.json", pretty(&facts::of(settings).into())),
        ("machine.json", pretty(&machine)),
    ] {
        let path = dir.join(name);
        write_private(&path, &text).map_err(|error| failed("write", &path, error))?;
    }
    args.insert(
        "flake".into(),
        format!("{}#{}", address(dir), parts.attribute).into(),
    );
    args.insert("override_inputs".into(), json!({"machines": parts.uri}));
    Ok(())
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

/// The reference of the flake in a directory. As a path, so that no Git repository around it is taken for the flake.
fn address(dir: &Path) -> String {
    use std::fmt::Write;
    use std::os::unix::ffi::OsStrExt;
    let mut address = "path:".to_owned();
    for byte in dir.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' | b'~' => {
                address.push(char::from(*byte))
            }
            other => {
                let _ = write!(address, "%{other:02X}");
            }
        }
    }
    address
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn settings(more: Value) -> Settings {
        let mut all = json!({"api_host": ["pve1"], "api_user": "a@pve", "ip": "192.0.2.11/24", "system_facts": "wrapper"});
        for (key, value) in more.as_object().unwrap() {
            all[key] = value.clone();
        }
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn the_wrapper_is_data_beside_a_constant_flake() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("sp ace #1");
        let name = "web1.example.org";
        let settings = settings(
            json!({"flake": format!("github:me/infra?dir=a b#{name}"), "name": "${builtins.abort}\""}),
        );
        let mut args = Args::new();
        wrap(&settings, &mut args, &dir).unwrap();
        let here = root.path().display();
        assert_eq!(args["flake"], format!("path:{here}/sp%20ace%20%231#{name}"));
        assert_eq!(
            args["override_inputs"],
            json!({"machines": "github:me/infra?dir=a%20b"})
        );
        let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
        assert_eq!(read("flake.nix"), FLAKE);
        let data = |name: &str| serde_json::from_str::<Value>(&read(name)).unwrap();
        assert_eq!(data("machine.json"), json!({"name": name}));
        assert_eq!(data("facts.json")["hostName"], "${builtins.abort}\"");
    }

    #[test]
    fn nothing_is_wrapped_that_is_not_to_be() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("facts");
        for more in [
            json!({"flake": "/infra#web1", "system_facts": "none"}),
            json!({"flake": "/infra#web1", "system_facts": "file"}),
            json!({"flake": "no reference"}),
        ] {
            let mut args = Args::new();
            wrap(&settings(more.clone()), &mut args, &dir).unwrap();
            assert!(args.is_empty() && !dir.exists(), "{more}");
        }
    }
}
