//! CPU models: which there are, what the option `cpu` may say, and what a VM cannot start with.
//!
//! Custom models are defined by `cpu-models.conf` in the data directory, in PVE's own format; it is read anew each time.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::schema::{self, Params};

/// The architecture of every node.
const HOST_ARCH: &str = "x86_64";
/// Model of a VM whose configuration names none.
const DEFAULT: &str = "kvm64";

/// The custom models by their names without `custom-`, and the model that each reports.
fn custom_models(dir: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(dir.join("cpu-models.conf")).unwrap_or_default();
    let mut models = BTreeMap::new();
    let mut current = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("cpu-model:") {
            let name = name.trim().to_owned();
            models.insert(name.clone(), DEFAULT.to_owned());
            current = Some(name);
        } else if let Some((key, value)) = line.trim().split_once(' ')
            && key == "reported-model"
            && let Some(name) = &current
        {
            models.insert(name.clone(), value.trim().to_owned());
        }
    }
    models
}

fn is_builtin(model: &str) -> bool {
    model.starts_with("x86-64-v")
}

/// Whether a model of the table, or the host's own, can be a vCPU of this architecture.
fn is_of(model: &str, arch: &str) -> bool {
    let is_host = model == "host" && arch == HOST_ARCH;
    let models = schema::cpu().models.get(arch);
    is_host || models.is_some_and(|models| models.iter().any(|known| known == model))
}

fn is_known(model: &str) -> bool {
    let mut archs = schema::cpu().models.keys();
    archs.any(|arch| is_of(model, arch))
}

/// Verify the parameter `cpu` of a call, after its format.
pub fn verify(dir: &Path, params: &Params) -> Result<(), ApiError> {
    let Some(text) = params.get("cpu") else {
        return Ok(());
    };
    let keys = schema::property_string("cpu", "cpu", text);
    let checked = keys.and_then(|keys| check(dir, &keys));
    checked.map_err(|text| ApiError::param("cpu", format!("invalid format - {text}\n")))
}

fn check(dir: &Path, keys: &BTreeMap<String, String>) -> Result<(), String> {
    let model = keys.get("cputype").map(String::as_str).unwrap_or_default();
    if model.is_empty() {
        return Err("CPU is missing cputype".into());
    }
    if let Some(name) = model.strip_prefix("custom-") {
        if !custom_models(dir).contains_key(name) {
            return Err(format!("Custom cputype '{name}' not found"));
        }
    } else if !is_known(model) {
        return Err(format!(
            "Built-in cputype '{model}' is not defined (missing 'custom-' prefix?)"
        ));
    }
    let known = &schema::cpu().flags;
    let flags = keys.get("flags").map(String::as_str).unwrap_or_default();
    let is_known = |flag: &str| known.iter().any(|known| known == &flag[1..]);
    if !flags.is_empty() && !flags.split(';').all(is_known) {
        let known = known.join(", ");
        return Err(format!(
            "VM-specific CPU flags must be a subset of: {known}"
        ));
    }
    if keys.contains_key("reported-model") {
        return Err("Property 'reported-model' not allowed in VM-specific CPU config.".into());
    }
    Ok(())
}

/// Fail as a start does, if the VM's model is not one of its architecture.
pub fn check_start(dir: &Path, config: &BTreeMap<String, String>) -> Result<(), String> {
    let arch = config.get("arch").map_or(HOST_ARCH, String::as_str);
    let Some(text) = config.get("cpu") else {
        return Ok(());
    };
    let keys = schema::property_string("cpu", "cpu", text)?;
    check(dir, &keys)?;
    let mut model = keys.get("cputype").cloned().unwrap_or_default();
    if let Some(name) = model.strip_prefix("custom-") {
        model = custom_models(dir).remove(name).unwrap_or_default();
    }
    if !is_of(&model, arch) {
        return Err(format!(
            "CPU model '{model}' does not exist for configured vCPU architecture '{arch}'"
        ));
    }
    if model == "host" && config.get("kvm").is_some_and(|kvm| kvm == "0") {
        return Err("CPU model 'host' requires KVM or HVF".into());
    }
    Ok(())
}

/// GET /nodes/{node}/capabilities/qemu/cpu. Custom models are shown to whoever may see all.
pub fn list(dir: &Path, arch: Option<&str>, sees_custom: bool) -> Value {
    let arch = arch.unwrap_or(HOST_ARCH);
    let entry = |name: &str, is_custom: bool| {
        let mut entry = json!({"name": name, "custom": u8::from(is_custom), "vendor": "default"});
        if is_builtin(name) {
            entry["abstract"] = json!(1);
        }
        entry
    };
    let own = (arch == HOST_ARCH).then(|| entry("host", false));
    let models = schema::cpu().models.get(arch).into_iter().flatten();
    let models = models.map(|name| entry(name, false));
    let custom = custom_models(dir).into_iter().filter(|_| sees_custom);
    let custom = custom.filter(|(_, reported)| is_of(reported, arch));
    let custom = custom.map(|(name, _)| entry(&format!("custom-{name}"), true));
    own.into_iter().chain(models).chain(custom).collect()
}

/// GET /nodes/{node}/capabilities/qemu/cpu-flags.
pub fn flags(arch: Option<&str>) -> Value {
    let flags = schema::cpu().flags.iter();
    let flags = flags.filter(|_| arch.is_none_or(|arch| arch == HOST_ARCH));
    flags
        .map(|name| json!({"name": name, "supported-on": []}))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn texts_are_those_of_pve() {
        let dir = std::env::temp_dir().join(format!("cpu-models-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let text = "cpu-model: web\n\tflags +aes\n\treported-model EPYC\n\ncpu-model: plain\n";
        std::fs::write(dir.join("cpu-models.conf"), text).expect("a file");
        for (cpu, error) in [
            ("host", ""),
            ("cputype=x86-64-v2-AES,flags=+aes;-pcid", ""),
            ("cortex-a57", ""),
            ("custom-web,phys-bits=host", ""),
            (
                "hosst",
                "Built-in cputype 'hosst' is not defined (missing 'custom-' prefix?)",
            ),
            (
                "EPYC-v2",
                "Built-in cputype 'EPYC-v2' is not defined (missing 'custom-' prefix?)",
            ),
            ("custom-Web", "Custom cputype 'Web' not found"),
            ("flags=+aes", "CPU is missing cputype"),
            (
                "host,reported-model=kvm64",
                "Property 'reported-model' not allowed in VM-specific CPU config.",
            ),
            (
                "host,flags=+aes;+vmx",
                "VM-specific CPU flags must be a subset of: aes, amd-no-ssb, amd-ssbd, hv-evmcs, hv-tlbflush, ibpb, md-clear, \
                 nested-virt, pcid, pdpe1gb, spec-ctrl, ssbd, virt-ssbd",
            ),
            (
                "host,phys-bits=7",
                "format error\ncpu.phys-bits: invalid format - value must be an integer between 8 and 64 or 'host'\n",
            ),
        ] {
            let found = match verify(&dir, &config(&[("cpu", cpu)])) {
                Ok(()) => String::new(),
                Err(error) => error.errors["cpu"].clone(),
            };
            let expected = match error {
                "" => String::new(),
                error => format!("invalid format - {error}\n"),
            };
            assert_eq!(found, expected, "{cpu}");
        }
        for (pairs, error) in [
            (&[("cpu", "custom-web")][..], None),
            (&[("cpu", "max"), ("arch", "aarch64")], None),
            (&[("cpu", "cortex-a57"), ("arch", "aarch64")], None),
            (
                &[("cpu", "cortex-a57")],
                Some(
                    "CPU model 'cortex-a57' does not exist for configured vCPU architecture 'x86_64'",
                ),
            ),
            (
                &[("cpu", "host"), ("arch", "aarch64")],
                Some("CPU model 'host' does not exist for configured vCPU architecture 'aarch64'"),
            ),
            (
                &[("cpu", "custom-web"), ("arch", "aarch64")],
                Some("CPU model 'EPYC' does not exist for configured vCPU architecture 'aarch64'"),
            ),
            (
                &[("cpu", "host"), ("kvm", "0")],
                Some("CPU model 'host' requires KVM or HVF"),
            ),
        ] {
            let found = check_start(&dir, &config(pairs)).err();
            assert_eq!(found.as_deref(), error, "{pairs:?}");
        }
        let names = |arch, all| {
            let list = list(&dir, arch, all);
            let list = list.as_array().expect("a list").iter();
            list.map(|model| model["name"].as_str().expect("a name").to_owned())
                .collect::<Vec<_>>()
        };
        let all = names(None, true);
        for name in ["host", "x86-64-v3", "custom-web", "custom-plain"] {
            assert!(all.iter().any(|known| known == name), "{name}");
        }
        assert!(!names(None, false).iter().any(|name| name == "custom-web"));
        assert!(
            !names(Some("aarch64"), true)
                .iter()
                .any(|name| name == "host")
        );
        std::fs::remove_dir_all(dir).expect("removed");
    }
}
