use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use pve_client::property;
use serde_json::{Value, json};

use super::update::with_size;
use super::*;
use crate::config::drive::{self, Drive, Source};
use crate::config::nic::Nic;
use crate::config::{Config, normalise};
use crate::desired::Desired;

fn desired(options: Value) -> Desired {
    crate::desired::from_json(options).unwrap()
}

fn config(pairs: &[(&str, &str)]) -> Config {
    pairs
        .iter()
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect()
}

/// A VM as PVE shows it after a create from `plan`: what facts about PVE say it makes of each text.
fn as_pve_keeps_it(plan: &Plan) -> Config {
    let mut disks = 0;
    let mut config = Config::new();
    for (key, text) in &plan.set {
        let value = match Drive::from_text(text) {
            Ok(drive) if drive::is_key(key) => match &drive.source {
                Source::New { storage } => {
                    disks += 1;
                    let options: String = drive
                        .options
                        .iter()
                        .filter(|(k, _)| k.as_str() != "format")
                        .map(|(k, v)| format!(",{k}={v}"))
                        .collect();
                    let size = property::format_size(drive.size.unwrap());
                    format!("{storage}:101/vm-101-disk-{disks}.raw{options},size={size}")
                }
                Source::CloudInit(storage) => {
                    format!("{storage}:101/vm-101-cloudinit.qcow2,media=cdrom")
                }
                Source::Iso(_) => format!("{text},size=352K"),
                _ => text.clone(),
            },
            _ if key.starts_with("net") => {
                let mut nic = Nic::parse(key, &json!(text)).unwrap();
                nic.mac.get_or_insert("BC:24:11:12:34:56".into());
                nic.to_text()
            }
            _ if key == "tags" => normalise::tags(text)
                .into_iter()
                .collect::<Vec<_>>()
                .join(";"),
            _ if key == "description" => format!("{text}\n"),
            _ if key == "pool" => continue,
            _ => text.clone(),
        };
        config.insert(key.clone(), value);
    }
    config.insert(
        "vmgenid".into(),
        "0d15aa4d-c0bc-4f81-a005-fc9b220c0be5".into(),
    );
    config.insert(
        "smbios1".into(),
        "uuid=6cff0931-1cb7-4535-800e-09aaaede1e6d".into(),
    );
    config
}

fn full() -> Value {
    json!({
        "name": "web1", "memory": 2048, "cores": 2, "agent": "yes", "tags": ["b", "A"], "onboot": true,
        "scsi": {"scsi0": {"storage": "local", "size": "32G", "discard": true}, "scsi10": "local:1", "scsi2": "local:1"},
        "ide": {"ide2": "local:iso/nixos.iso,media=cdrom", "ide0": "local:cloudinit"},
        "net": {"net0": {"bridge": "vmbr0", "firewall": true}}, "serial": {"serial0": "socket"}, "pool": "p",
        "efidisk0": {"storage": "local", "efitype": "4m"}, "description": "a\nb", "config": {"smbios1": "serial=x"},
    })
}

#[test]
fn a_new_vm_gets_everything_and_a_boot_order() {
    let plan = create(&desired(full()));
    assert_eq!(plan.set["scsi0"], "local:32,discard=on");
    assert_eq!(plan.set["boot"], "order=scsi0;ide2;net0");
    assert_eq!(plan.set["pool"], "p");
    assert!(plan.before.is_empty() && plan.refusals.is_empty());
    assert_eq!(plan.after.len(), plan.set.len());

    let mut options = full();
    options["boot"] = json!("order=scsi0;scsi7");
    let plan = create(&desired(options));
    assert_eq!(
        plan.refusals,
        ["boot names scsi7, which the VM will not have"]
    );
}

#[test]
fn nothing_is_planned_for_what_was_just_made() {
    let desired = desired(full());
    let mut have = as_pve_keeps_it(&create(&desired));
    have.insert(
        "smbios1".into(),
        "serial=x,uuid=6cff0931-1cb7-4535-800e-09aaaede1e6d".into(),
    );
    let plan = update(&desired, &have, false, true);
    assert!(plan.is_empty() && plan.refusals.is_empty(), "{plan:?}");
    assert_eq!(plan.before, plan.after);
}

#[test]
fn only_differences_are_sent() {
    let have = config(&[
        ("memory", "1024"),
        ("cores", "2"),
        ("name", "web1"),
        ("tags", "a;b"),
        ("hookscript", "local:snippets/x"),
        ("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr0"),
        ("scsi0", "local:101/vm-101-disk-0.raw,size=32G"),
        ("boot", "order=scsi0"),
    ]);
    let options = json!({
        "name": "web1", "memory": 2048, "cores": 2, "tags": ["a"], "boot": "scsi0",
        "net": {"net0": "virtio,bridge=vmbr1"}, "scsi": {"scsi0": "local:40"}, "config": {"hookscript": null},
    });
    let plan = update(&desired(options), &have, false, true);
    assert_eq!(
        plan.set,
        BTreeMap::from([
            ("memory".into(), "2048".into()),
            ("tags".into(), "a".into()),
            (
                "net0".into(),
                "virtio=BC:24:11:00:00:01,bridge=vmbr1".into()
            ),
        ])
    );
    assert_eq!(plan.delete, BTreeSet::from(["hookscript".into()]));
    assert_eq!(plan.grow, BTreeMap::from([("scsi0".into(), 40 << 30)]));
    assert_eq!(plan.boot, None);
    assert_eq!(plan.after["scsi0"], "local:101/vm-101-disk-0.raw,size=40G");
    assert_eq!(
        plan.changed_names(),
        ["hookscript", "memory", "net0", "scsi0", "tags"]
    );
}

#[test]
fn boot_is_set_again_after_every_change_of_a_drive() {
    let have = config(&[
        ("scsi0", "local:101/vm-101-disk-0.raw,size=1G"),
        ("boot", "order=scsi0"),
    ]);
    let add = json!({"ide": {"ide2": "local:iso/a.iso"}});
    assert_eq!(
        update(&desired(add), &have, false, true).boot.as_deref(),
        Some("order=scsi0")
    );

    let add = json!({"ide": {"ide2": "local:iso/a.iso"}, "boot": "scsi0;ide2"});
    assert_eq!(
        update(&desired(add), &have, false, true).boot.as_deref(),
        Some("order=scsi0;ide2")
    );

    let other = json!({"memory": 700});
    assert_eq!(update(&desired(other), &have, false, true).boot, None);
}

#[test]
fn a_cdrom_is_ejected_before_it_is_removed_from_a_running_vm() {
    let have = config(&[
        ("ide2", "local:iso/a.iso,media=cdrom,size=352K"),
        ("ide3", "none,media=cdrom"),
        ("scsi0", "local:101/vm-101-disk-0.raw,size=1G"),
        ("boot", "order=scsi0;ide2"),
    ]);
    let remove = desired(json!({"remove_disks": ["ide2", "ide3", "sata5"]}));
    let running = update(&remove, &have, true, true);
    assert_eq!(running.eject, ["ide2"]);
    assert_eq!(
        running.delete,
        BTreeSet::from(["ide2".into(), "ide3".into()])
    );
    assert_eq!(running.boot.as_deref(), Some("order=scsi0"));
    assert!(update(&remove, &have, false, true).eject.is_empty());

    let named = desired(json!({"remove_disks": ["ide2"], "boot": "order=scsi0;ide2"}));
    let plan = update(&named, &have, false, true);
    assert_eq!(
        plan.refusals,
        ["boot names ide2, which the VM will not have"]
    );
}

#[test]
fn a_volume_is_deleted_only_when_that_is_said() {
    let have = config(&[
        ("scsi1", "local:101/vm-101-disk-1.raw,size=1G"),
        ("unused0", "local:101/vm-101-disk-9.raw"),
    ]);
    let keep = update(
        &desired(json!({"remove_disks": ["scsi1"]})),
        &have,
        false,
        true,
    );
    assert_eq!((keep.delete.len(), keep.destroys), (1, false));
    let both = json!({"remove_disks": ["scsi1", "unused0"], "delete_disks": true});
    let delete = update(&desired(both), &have, false, true);
    assert!(delete.destroys);
    assert_eq!(
        delete.delete,
        BTreeSet::from(["scsi1".into(), "unused0".into()])
    );
}

#[test]
fn what_a_snapshot_holds_is_not_deleted() {
    let have = config(&[
        ("scsi1", "local:101/vm-101-disk-1.qcow2,size=1G"),
        ("parent", "before"),
    ]);
    let mut options = json!({"remove_disks": ["scsi1"]});
    assert!(
        update(&desired(options.clone()), &have, false, true)
            .refusals
            .is_empty()
    );
    options["delete_disks"] = json!(true);
    let refusals = update(&desired(options), &have, false, true).refusals;
    assert!(
        refusals[0].contains("has snapshots (the last one is before)"),
        "{refusals:?}"
    );
}

#[test]
fn a_volume_is_one_disk() {
    let have = config(&[
        ("scsi0", "local:101/vm-101-disk-0.raw,size=1G"),
        ("unused0", "local:101/vm-101-disk-9.raw"),
    ]);
    let refusals = |options: Value| update(&desired(options), &have, false, true).refusals;
    let (first, unused) = ("local:101/vm-101-disk-0.raw", "local:101/vm-101-disk-9.raw");
    assert_eq!(
        refusals(json!({"scsi": {"scsi1": first}})),
        [format!(
            "scsi1: {first} is the disk scsi0 of this VM already"
        )]
    );
    // From one place to another, but not if it would be deleted on the way.
    let moved = json!({"scsi": {"scsi1": first}, "remove_disks": ["scsi0"]});
    assert_eq!(refusals(moved.clone()), [""; 0]);
    assert_eq!(refusals(json!({"scsi": {"scsi1": unused}})), [""; 0]);
    for (mut options, key, volid) in [
        (moved, "scsi0", first),
        (
            json!({"scsi": {"scsi1": unused}, "remove_disks": ["unused0"]}),
            "unused0",
            unused,
        ),
    ] {
        options["delete_disks"] = json!(true);
        assert_eq!(
            refusals(options),
            [format!(
                "scsi1: {volid} is {key}, whose volume delete_disks deletes"
            )]
        );
    }
}

#[test]
fn nothing_is_removed_from_a_protected_vm() {
    let have = config(&[
        ("scsi1", "local:101/vm-101-disk-1.raw,size=1G"),
        ("protection", "1"),
    ]);
    let options = json!({"remove_disks": ["scsi1"], "protection": false});
    let plan = update(&desired(options), &have, false, true);
    assert_eq!(
        plan.refusals,
        ["scsi1 cannot be removed from a protected VM; set protection: false first"]
    );
    let gone = json!({"remove_disks": ["scsi7"]});
    assert!(
        update(&desired(gone), &have, false, true)
            .refusals
            .is_empty()
    );
}

#[test]
fn drives_that_are_not_described_stay() {
    let have = config(&[
        ("ide0", "local:101/vm-101-cloudinit.qcow2,media=cdrom"),
        ("scsi0", "local:101/vm-101-disk-0.raw,size=1G"),
        ("boot", "order=scsi0"),
    ]);
    let plan = update(
        &desired(json!({"scsi": {"scsi0": "local:1"}, "boot": "scsi0"})),
        &have,
        false,
        true,
    );
    assert!(plan.is_empty(), "{plan:?}");
}

#[test]
fn the_pool_is_set_when_the_vm_is_not_in_it() {
    let desired = desired(json!({"pool": "lab"}));
    assert_eq!(
        update(&desired, &Config::new(), false, false)
            .pool
            .as_deref(),
        Some("lab")
    );
    assert!(update(&desired, &Config::new(), false, true).is_empty());
}

fn disk() -> impl Strategy<Value = Value> {
    let options = (
        any::<Option<bool>>(),
        any::<Option<bool>>(),
        any::<Option<bool>>(),
        prop::option::of("writeback|none"),
    );
    (1u64..4096, prop::bool::ANY, options).prop_map(
        |(mib, text, (discard, iothread, ssd, cache))| {
            if text {
                let mut line = format!("local:{}", crate::config::size::gib(mib << 20));
                line.extend(
                    discard.map(|on| format!(",discard={}", if on { "on" } else { "ignore" })),
                );
                line.extend(iothread.map(|on| format!(",iothread={}", u8::from(on))));
                line.extend(cache.map(|cache| format!(",cache={cache}")));
                return json!(line);
            }
            let mut dict = json!({"storage": "local", "size": format!("{mib}M")});
            for (key, value) in [("discard", discard), ("iothread", iothread), ("ssd", ssd)] {
                if let Some(on) = value {
                    dict[key] = json!(on);
                }
            }
            if let Some(cache) = cache {
                dict["cache"] = json!(cache);
            }
            dict
        },
    )
}

fn cdrom() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!("none")),
        Just(json!("local:cloudinit")),
        Just(json!({"iso": "local:iso/a.iso"})),
        Just(json!("local:iso/b.iso,media=cdrom")),
    ]
}

fn nic() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!("virtio,bridge=vmbr0")),
        Just(json!("e1000=bc:24:11:aa:bb:cc,bridge=vmbr0,firewall=0")),
        (any::<bool>(), 1u16..4095)
            .prop_map(|(fw, tag)| json!({"bridge": "vmbr1", "firewall": fw, "tag": tag})),
    ]
}

prop_compose! {
    fn options()(
        memory in prop::option::of(16u32..9000),
        cores in prop::option::of(1u32..8),
        agent in prop::option::of("yes|no|1|enabled=1|enabled=0,type=isa"),
        onboot in any::<Option<bool>>(),
        tags in prop::option::of(prop::collection::vec("[a-zA-Z]{1,4}", 0..4)),
        description in prop::option::of("[a-z\n]{0,12}"),
        scsi in prop::collection::btree_map("scsi[0-9]", disk(), 0..3),
        ide in prop::collection::btree_map("ide[0-3]", cdrom(), 0..3),
        net in prop::collection::btree_map("net[0-3]", nic(), 0..3),
    ) -> Value {
        let mut options = json!({"name": "x", "scsi": scsi, "ide": ide, "net": net});
        let optional = [
            ("memory", memory.map(|v| json!(v))), ("cores", cores.map(|v| json!(v))), ("agent", agent.map(|v| json!(v))),
            ("onboot", onboot.map(|v| json!(v))), ("tags", tags.map(|v| json!(v))), ("description", description.map(|v| json!(v))),
        ];
        for (key, value) in optional {
            if let Some(value) = value {
                options[key] = value;
            }
        }
        options
    }
}

proptest! {
    #[test]
    fn reading_what_was_created_plans_nothing(options in options(), running in any::<bool>()) {
        let desired = desired(options);
        let made = create(&desired);
        prop_assert!(made.refusals.is_empty(), "{:?}", made.refusals);
        let have = as_pve_keeps_it(&made);
        let plan = update(&desired, &have, running, true);
        prop_assert!(plan.is_empty() && plan.refusals.is_empty(), "{have:?}\n{plan:?}");
        prop_assert_eq!(plan.before, plan.after);
    }

    #[test]
    fn applying_a_plan_leaves_nothing_to_plan(first in options(), second in options()) {
        let have = as_pve_keeps_it(&create(&desired(first)));
        let desired = desired(second);
        let plan = update(&desired, &have, false, true);
        if plan.refusals.is_empty() {
            let mut after = have;
            after.retain(|key, _| !plan.delete.contains(key));
            after.extend(as_pve_keeps_it(&plan));
            for (key, bytes) in &plan.grow {
                let grown = with_size(&after[key], *bytes);
                after.insert(key.clone(), grown);
            }
            after.extend(plan.boot.map(|boot| ("boot".into(), boot)));
            let again = update(&desired, &after, false, true);
            prop_assert!(again.is_empty(), "{after:?}\n{again:?}");
        }
    }
}
