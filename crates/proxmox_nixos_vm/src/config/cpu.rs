//! CPU models: what PVE does not take, and what it takes and then does not start.

use std::collections::BTreeSet;

use pve_client::property::{self, PropertyString};
use pve_schema::cpu::{self, CUSTOM, FLAGS};
use pve_schema::spelling::{close, did_you_mean};
use serde_json::Value;

/// The CPU that an option `cpu` describes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cpu {
    /// The model, such as `host`.
    pub model: String,
    /// The names of the flags, without `+` and `-`.
    pub flags: BTreeSet<String>,
}

impl Cpu {
    /// The CPU in PVE's text, if it names a model.
    pub fn parse(text: &str) -> Option<Self> {
        let parts = PropertyString::parse(text, Some("cputype")).ok()?;
        let flags = parts.get("flags").unwrap_or_default().split(';');
        let flags = flags.map(|flag| flag.trim_start_matches(['+', '-']).to_owned());
        Some(Self {
            model: parts.get("cputype")?.to_owned(),
            flags: flags.filter(|flag| !flag.is_empty()).collect(),
        })
    }

    /// Whether every node has the model, and PVE takes the flags.
    pub fn is_everywhere(&self, arch: Option<&str>) -> bool {
        self.model == "host" && arch.is_none() && self.unknown_flags().next().is_none()
    }

    /// Flags that PVE 9.2 leaves to custom models.
    pub fn unknown_flags(&self) -> impl Iterator<Item = &str> {
        let flags = self.flags.iter().map(String::as_str);
        flags.filter(|flag| !FLAGS.contains(flag))
    }

    /// Why no node starts a VM with this model.
    pub fn refusal(&self, arch: Option<&str>, kvm: Option<&str>) -> Option<String> {
        let model = &self.model;
        if model == "host" && kvm.and_then(property::parse_bool) == Some(false) {
            return Some(
                "model 'host' requires KVM (got kvm: 0); use model 'max', or leave kvm out"
                    .to_owned(),
            );
        }
        let arch = arch.filter(|arch| !arch.is_empty())?;
        let only = cpu::only_architecture(model).filter(|only| *only != arch)?;
        let models = match arch {
            "aarch64" => "max or cortex-a72",
            _ => "host or x86-64-v2-AES",
        };
        Some(format!(
            "{model} is a model of {only}, and the VM's architecture is {arch} (option arch); use for example {models}"
        ))
    }
}

/// The models that PVE lists for an architecture (`/nodes/NODE/capabilities/qemu/cpu`).
#[derive(Debug, Default)]
pub struct Models {
    names: Vec<String>,
    /// Whether PVE shows all custom models that the caller may use: since PVE 9.2 it takes no others from them.
    shows_usable: bool,
}

impl Models {
    /// PVE's answer. A list without any model of its own is not one.
    pub fn parse(answer: &Value) -> Option<Self> {
        let list = answer.as_array()?;
        let name = |model: &Value| Some(model.get("name")?.as_str()?.to_owned());
        let names: Vec<String> = list.iter().filter_map(name).collect();
        let is_listed = names.iter().any(|name| name == "max" || name == "kvm64");
        let mut custom = names.iter().filter(|name| name.starts_with(CUSTOM));
        // PVE marks its own models since it checks who may use which custom one. Before, it showed all of them or none.
        let marks = list.iter().any(|model| model.get("abstract").is_some());
        let shows_usable = marks || custom.next().is_some();
        is_listed.then_some(Self {
            names,
            shows_usable,
        })
    }

    /// The table's models of an architecture, for a server that lists those of its own only.
    pub fn known(arch: &str) -> Self {
        let models = cpu::models(arch).iter();
        let models = models.filter(|model| **model != "host");
        Self {
            names: models.map(|model| (*model).to_owned()).collect(),
            shows_usable: false,
        }
    }

    /// The architecture whose models these are.
    pub fn architecture(&self) -> &'static str {
        match self.has("kvm64") {
            true => "x86_64",
            false => "aarch64",
        }
    }

    fn has(&self, model: &str) -> bool {
        self.names.iter().any(|name| name == model)
    }

    /// Why the node cannot run this model, if these are the models of the VM's architecture.
    pub fn refusal(&self, node: &str, model: &str) -> Option<String> {
        if self.has(model) || (model.starts_with(CUSTOM) && !self.shows_usable) {
            return None;
        }
        let arch = self.architecture();
        let names = || self.names.iter().map(String::as_str);
        let prefixed = format!("{CUSTOM}{model}");
        // PVE lists the first version of QEMU's models without it.
        let first = model.strip_suffix("-v1");
        let meant = names().find(|name| *name == prefixed || Some(*name) == first);
        let meant = match meant {
            Some(name) => vec![name],
            None => close(model, names()),
        };
        let (what, hint) = match cpu::only_architecture(model) {
            Some(other) if other != arch => (format!(", it is one of {other}"), String::new()),
            _ => (String::new(), did_you_mean(&meant)),
        };
        let hint = match hint.is_empty() {
            true => format!("; pvesh get /nodes/{node}/capabilities/qemu/cpu lists them"),
            false => hint,
        };
        Some(format!(
            "node {node} does not have the {arch} CPU model '{model}'{what}{hint}"
        ))
    }
}

/// Why PVE does not take one of the flags. `listed` is what it lists besides the table's.
pub fn flag_refusal(cpu: &Cpu, listed: &[String]) -> Option<String> {
    let flag = cpu
        .unknown_flags()
        .find(|flag| !listed.iter().any(|known| known == flag))?;
    let meant = match flag {
        "vmx" | "svm" => vec!["nested-virt"],
        _ => close(flag, FLAGS.iter().copied()),
    };
    let known = FLAGS.join(", ");
    Some(format!(
        "flag '{flag}' is supported in custom CPU models only{} (flags of a VM: {known})",
        did_you_mean(&meant)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn models(names: &[&str], marks: bool) -> Models {
        let model = |name: &&str| match (marks, name.starts_with("x86-64-v")) {
            (true, true) => json!({"name": name, "abstract": 1}),
            _ => json!({"name": name}),
        };
        Models::parse(&names.iter().map(model).collect()).unwrap()
    }

    #[test]
    fn models_that_no_node_starts() {
        for (text, arch, kvm, expected) in [
            ("host", None, None, None),
            ("host", None, Some("1"), None),
            ("host", Some("aarch64"), None, None),
            ("max", Some("aarch64"), Some("0"), None),
            ("custom-a", Some("aarch64"), None, None),
            ("EPYC-Next", Some("aarch64"), None, None),
            ("cortex-a72", None, None, None),
            (
                "host,flags=+aes",
                None,
                Some("0"),
                Some("model 'host' requires KVM (got kvm: 0); use model 'max', or leave kvm out"),
            ),
            (
                "x86-64-v2-AES",
                Some("aarch64"),
                None,
                Some(
                    "x86-64-v2-AES is a model of x86_64, and the VM's architecture is aarch64 (option arch); use for example max \
                     or cortex-a72",
                ),
            ),
            (
                "cputype=neoverse-n1",
                Some("x86_64"),
                None,
                Some(
                    "neoverse-n1 is a model of aarch64, and the VM's architecture is x86_64 (option arch); use for example host \
                     or x86-64-v2-AES",
                ),
            ),
        ] {
            let cpu = Cpu::parse(text).unwrap();
            assert_eq!(cpu.refusal(arch, kvm).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn models_that_a_node_does_not_have() {
        let old = &["host", "kvm64", "qemu64", "max", "x86-64-v2-AES", "Haswell"][..];
        let with_custom = &["host", "kvm64", "x86-64-v2-AES", "custom-web"][..];
        let lists = "; pvesh get /nodes/pve/capabilities/qemu/cpu lists them";
        for (names, marks, model, expected) in [
            (old, false, "host", None),
            (old, false, "custom-web", None),
            (with_custom, false, "custom-web", None),
            (
                old,
                false,
                "hosst",
                Some("x86_64 CPU model 'hosst'; did you mean host?".to_owned()),
            ),
            (
                old,
                false,
                "Haswell-v1",
                Some("x86_64 CPU model 'Haswell-v1'; did you mean Haswell?".into()),
            ),
            (
                old,
                false,
                "haswell",
                Some("x86_64 CPU model 'haswell'; did you mean Haswell?".into()),
            ),
            (
                old,
                false,
                "EPYC-Turin",
                Some(format!("x86_64 CPU model 'EPYC-Turin'{lists}")),
            ),
            (
                old,
                false,
                "cortex-a57",
                Some(format!(
                    "x86_64 CPU model 'cortex-a57', it is one of aarch64{lists}"
                )),
            ),
            (
                old,
                true,
                "custom-web",
                Some(format!("x86_64 CPU model 'custom-web'{lists}")),
            ),
            (
                with_custom,
                false,
                "custom-wbe",
                Some("x86_64 CPU model 'custom-wbe'; did you mean custom-web?".into()),
            ),
            (
                with_custom,
                false,
                "web",
                Some("x86_64 CPU model 'web'; did you mean custom-web?".into()),
            ),
        ] {
            let found = models(names, marks).refusal("pve", model);
            let expected = expected.map(|text| format!("node pve does not have the {text}"));
            assert_eq!(found, expected, "{model}");
        }
        let arm = Models::known("aarch64");
        assert_eq!(arm.architecture(), "aarch64");
        assert_eq!(arm.refusal("pve", "max"), None);
        assert_eq!(
            arm.refusal("pve", "host").as_deref(),
            Some(
                "node pve does not have the aarch64 CPU model 'host'; pvesh get /nodes/pve/capabilities/qemu/cpu lists them"
            )
        );
        for answer in [json!([]), json!({}), json!([{"name": "a"}]), json!(null)] {
            assert!(Models::parse(&answer).is_none(), "{answer}");
        }
    }

    #[test]
    fn flags_that_pve_leaves_to_custom_models() {
        for (text, listed, part) in [
            ("host,flags=+aes;-pcid;+nested-virt", &[][..], None),
            ("host", &[], None),
            ("host,flags=+amx", &["amx".to_owned()], None),
            (
                "host,flags=+AES",
                &[],
                Some(
                    "flag 'AES' is supported in custom CPU models only; did you mean aes? (flags of a VM: aes, ",
                ),
            ),
            ("host,flags=+vmx", &[], Some("did you mean nested-virt?")),
            ("host,flags=+aes;+avx2", &[], Some("flag 'avx2'")),
            ("host,flags=+md_clear", &[], Some("did you mean md-clear?")),
        ] {
            let found = flag_refusal(&Cpu::parse(text).unwrap(), listed);
            match part {
                Some(part) => assert!(
                    found.as_ref().is_some_and(|text| text.contains(part)),
                    "{found:?}"
                ),
                None => assert_eq!(found, None, "{text}"),
            }
        }
    }
}
