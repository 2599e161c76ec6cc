//! Configurations with any text in any place are planned for, or refused, and always shown.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use crate::config::drive::Drive;
use crate::config::nic::Nic;
use crate::state::{self, State};
use crate::{desired, plan};

const KEYS: [&str; 22] = [
    "name",
    "memory",
    "cores",
    "cpu",
    "agent",
    "boot",
    "tags",
    "description",
    "hotplug",
    "smbios1",
    "vmgenid",
    "protection",
    "template",
    "scsi0",
    "scsi4294967296",
    "ide2",
    "efidisk0",
    "unused0",
    "net0",
    "digest",
    "pool",
    "é",
];

/// Texts near PVE's, and of any other kind.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "(local|zfs)?:?(iso/a.iso|cloudinit|vm-1-cloudinit|[0-9.]{1,25}|101/vm-101-disk-0.raw|none|/dev/sda)(,(size|media|discard|ssd|file|volume|format)=[a-z0-9.]{0,9}[KMGT]?){0,3}",
        "(virtio|e1000|model=virtio|x)(=[0-9A-F:]{0,17})?(,(bridge|firewall|macaddr|tag)=[a-z0-9:]{1,6}){0,3}",
        "(order=)?([a-z0-9;= ]|scsi0|ide2){0,4}",
        "(uuid|serial)=[a-z0-9=]{0,5},?(base64=1)?",
        Just("a=1,".repeat(300)),
    ]
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => text().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(json!({"a": [null]})),
    ]
}

prop_compose! {
    fn described()(
        drive in scalar(), cdrom in scalar(), nic in scalar(), smbios in text(), boot in prop::option::of(text()),
        size in scalar(), tags in prop::collection::vec(text(), 0..3), description in any::<String>(),
        remove in any::<bool>(), moves in any::<bool>(),
    ) -> Value {
        let mut options = json!({
            "name": "x", "scsi": {"scsi0": drive, "scsi1": {"storage": "local", "size": size}}, "ide": {"ide2": cdrom},
            "net": {"net0": nic}, "config": {"smbios1": smbios}, "tags": tags, "description": description,
            "move_disks": moves, "delete_disks": remove, "boot": boot,
        });
        if remove {
            options["scsi"] = json!({});
            options["remove_disks"] = json!(["scsi0", "unused0", "efidisk0"]);
        }
        options
    }
}

proptest! {
    #[test]
    fn any_configuration_is_planned_for(
        raw in prop::collection::btree_map(select(&KEYS[..]), scalar(), 0..12),
        options in prop_oneof![described(), Just(json!({"name": "x", "memory": 1, "scsi": {"scsi0": "local:1"}, "net": {"net0": "virtio"}}))],
        running in any::<bool>(),
    ) {
        let raw: Map<String, Value> = raw.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        let state = State {
            made_here: false,
            vmid: 101,
            node: "pve".into(),
            config: state::config(&raw),
            digest: None,
            status: "running".into(),
            pending: Vec::new(),
        };
        prop_assert_eq!(&state.values()["exists"], &json!(true));
        let _ = (state.protected(), state.is_template(), state.tags(), state.object());
        match desired::from_json(options) {
            Ok(desired) => {
                let _ = plan::create(&desired);
                let plan = plan::update(&desired, &state.config, running, false);
                prop_assert!(plan.grow.values().all(|bytes| *bytes > 0));
                let _ = plan.changed_names();
            }
            Err(mistakes) => prop_assert!(!mistakes.is_empty()),
        }
    }

    #[test]
    fn a_text_that_is_read_is_written_the_same(text in text()) {
        if let Ok(read) = Drive::from_text(&text) {
            let written = read.to_text();
            let again = Drive::from_text(&written);
            prop_assert!(again.as_ref().is_ok_and(|again| again.source == read.source), "{:?} {:?}", text, written);
        }
        if let Ok(read) = Nic::parse("net0", &json!(text)) {
            prop_assert_eq!(Nic::parse("net0", &json!(read.to_text())), Ok(read));
        }
    }
}
