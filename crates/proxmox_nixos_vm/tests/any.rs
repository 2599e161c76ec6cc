//! Any description: what was made from it needs no change, and any VM becomes it.

mod common;

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use common::*;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};

/// One host for all cases: names and VMIDs are never used twice.
static LAB: LazyLock<Lab> = LazyLock::new(lab);
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A description: options by their place (`memory`, `scsi.scsi0`, `config.smbios1`).
type Description = BTreeMap<&'static str, Value>;

fn plain() -> impl Strategy<Value = Description> {
    let choices: Vec<(&'static str, Vec<Value>)> = vec![
        ("memory", vec![json!(128), json!(2048)]),
        ("balloon", vec![json!(0), json!(64)]),
        ("cores", vec![json!(1), json!(4)]),
        ("sockets", vec![json!(1), json!(2)]),
        (
            "cpu",
            vec![
                json!("max"),
                json!("x86-64-v2-AES,flags=+aes"),
                json!("cputype=max"),
            ],
        ),
        ("numa", vec![json!(true), json!(false)]),
        ("bios", vec![json!("seabios"), json!("ovmf")]),
        ("machine", vec![json!("q35"), json!("pc")]),
        ("ostype", vec![json!("l26"), json!("other")]),
        (
            "scsihw",
            vec![json!("virtio-scsi-single"), json!("virtio-scsi-pci")],
        ),
        (
            "agent",
            vec![
                json!(true),
                json!(false),
                json!("enabled=1,fstrim_cloned_disks=1"),
            ],
        ),
        ("vga", vec![json!("std"), json!("serial0")]),
        ("tablet", vec![json!(true), json!(false)]),
        ("hotplug", vec![json!("network,disk"), json!("0")]),
        ("onboot", vec![json!(true), json!(false)]),
        ("startup", vec![json!("order=1,up=30"), json!("up=5")]),
        (
            "tags",
            vec![json!([]), json!(["b", "A"]), json!(["x", "y", "b"])],
        ),
        (
            "description",
            vec![
                json!(""),
                json!("one: line"),
                json!("ü 50%\ntwo\n"),
                json!("# hash"),
            ],
        ),
        ("protection", vec![json!(false)]),
        ("serial.serial0", vec![json!("socket")]),
        (
            "config.smbios1",
            vec![json!("serial=x"), json!("product=y,serial=z")],
        ),
        ("config.kvm", vec![json!(0), json!("yes")]),
        ("config.localtime", vec![json!(true), json!(false)]),
    ];
    let options: Vec<_> = choices
        .into_iter()
        .map(|(key, values)| proptest::option::of(select(values)).prop_map(move |v| (key, v)))
        .collect();
    options.prop_map(|options| {
        let given = options.into_iter().filter_map(|(key, v)| Some((key, v?)));
        given.collect()
    })
}

/// A disk of one size in one of PVE's and our spellings, so that one description never shrinks another's.
fn disk(storage: &'static str) -> impl Strategy<Value = Value> {
    let spelling = select(vec![0, 1, 2]);
    (spelling, any::<bool>(), any::<bool>()).prop_map(
        move |(spelling, discard, iothread)| match spelling {
            0 => json!({"storage": storage, "size": "256M", "discard": discard, "iothread": iothread}),
            1 => json!(format!(
                "{storage}:0.25,iothread={},discard={}",
                u8::from(iothread),
                if discard { "on" } else { "ignore" }
            )),
            _ => json!({"storage": storage, "size": 0.25, "backup": !iothread, "cache": "none"}),
        },
    )
}

fn devices() -> impl Strategy<Value = Description> {
    let cdrom = select(vec![
        json!("none,media=cdrom"),
        json!("local:iso/a.iso,media=cdrom"),
        json!({"iso": "local:iso/b.iso"}),
    ]);
    let nic = select(vec![
        json!("virtio,bridge=vmbr0"),
        json!("model=e1000,bridge=vmbr0,firewall=1"),
        json!({"bridge": "vmbr0", "tag": 7, "firewall": false}),
        json!({"bridge": "vmbr0", "macaddr": "bc:24:11:aa:00:01", "link_down": true}),
    ]);
    let efi = json!({"storage": "local", "efitype": "4m"});
    (
        proptest::option::of(disk("local")),
        proptest::option::of(disk("local-zfs")),
        proptest::option::of(disk("local")),
        proptest::option::of(cdrom),
        proptest::option::of(nic.clone()),
        proptest::option::of(nic),
        proptest::option::of(Just(efi)),
    )
        .prop_map(|(scsi0, scsi11, virtio1, ide2, net0, net3, efi)| {
            let all = [
                ("scsi.scsi0", scsi0),
                ("scsi.scsi11", scsi11),
                ("virtio.virtio1", virtio1),
                ("ide.ide2", ide2),
                ("net.net0", net0),
                ("net.net3", net3),
                ("efidisk0", efi),
            ];
            all.into_iter()
                .filter_map(|(key, v)| Some((key, v?)))
                .collect()
        })
}

fn description() -> impl Strategy<Value = Description> {
    (plain(), devices()).prop_map(|(mut plain, devices)| {
        plain.extend(devices);
        plain
    })
}

/// The name of an option in PVE's configuration.
fn key(place: &str) -> &str {
    place.rsplit('.').next().unwrap()
}

fn is_drive(key: &str) -> bool {
    ["scsi0", "scsi11", "virtio1", "ide2", "efidisk0"].contains(&key)
}

/// The module's options for a description, with an explicit boot order.
fn options(name: &str, wanted: &Description) -> Value {
    let mut options = json!({"node": "pve", "name": name, "timeout": 100});
    for (place, value) in wanted {
        match place.split_once('.') {
            Some((group, key)) => options[group][key] = value.clone(),
            None => options[*place] = value.clone(),
        }
    }
    let bootable = wanted
        .keys()
        .map(|place| key(place))
        .filter(|key| (is_drive(key) && *key != "efidisk0") || key.starts_with("net"));
    options["boot"] = json!(format!("order={}", bootable.collect::<Vec<_>>().join(";")));
    options
}

/// The same, and everything that `had` describes besides is removed.
fn instead(name: &str, wanted: &Description, had: &Description) -> Value {
    let mut options = options(name, wanted);
    let mut remove = Vec::new();
    for place in had.keys().filter(|place| !wanted.contains_key(*place)) {
        if is_drive(key(place)) {
            remove.push(key(place));
        } else if *place == "tags" {
            options["tags"] = json!([]);
        } else {
            options["config"][key(place)] = Value::Null;
        }
    }
    options["remove_disks"] = json!(remove);
    options["delete_disks"] = json!(true);
    options
}

/// A configuration less what PVE makes up, and in one order.
fn normal(config: &Value) -> Map<String, Value> {
    let made_up = ["digest", "name", "meta", "vmgenid"];
    let config = config.as_object().unwrap().iter();
    config
        .filter(|(key, _)| !made_up.contains(&key.as_str()))
        .map(|(key, value)| {
            let text = value.as_str().map_or(value.to_string(), str::to_owned);
            let mut parts: Vec<String> = text
                .split(',')
                .filter(|part| !part.starts_with("uuid="))
                .map(|part| match part.split_once(':') {
                    // The storage, but not the volume's name, which has the VMID in it.
                    Some((storage, _)) if is_drive(key) && !part.contains("iso/") => storage.into(),
                    _ => match part.split_once("=BC:24:11") {
                        Some((model, _)) => model.to_owned(),
                        None => part.to_owned(),
                    },
                })
                .collect();
            parts.sort();
            (key.clone(), json!(parts.join(",")))
        })
        // Where there is nothing but a UUID.
        .filter(|(key, value)| !(key == "smbios1" && value == ""))
        .collect()
}

fn name() -> String {
    format!("vm{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Fewer cases than other tests try, since each is some runs of the module against a cluster. The macro `proptest!` would have the
/// environment's number win.
fn few() -> TestRunner {
    let usual = ProptestConfig::default();
    TestRunner::new(ProptestConfig {
        cases: usual.cases.div_ceil(5),
        max_shrink_iters: 60,
        ..usual
    })
}

#[test]
fn what_was_made_from_a_description_is_as_described() {
    let tried = few().run(&description(), |wanted| {
        let options = options(&name(), &wanted);
        let made = LAB.ok(options.clone());
        prop_assert_eq!(&made["actions"], &json!(["create"]), "{:#}", options);
        let again = LAB.ok(options.clone());
        prop_assert_eq!(
            &again["actions"],
            &json!([]),
            "{:#}\n{:#}",
            options,
            again["diff"]
        );
        prop_assert_eq!(&again["diff"]["before"], &again["diff"]["after"]);
        Ok(())
    });
    tried.unwrap();
}

#[test]
fn any_vm_becomes_what_is_described() {
    let tried = few().run(&(description(), description()), |(had, wanted)| {
        let (first, second) = (name(), name());
        LAB.ok(options(&first, &had));
        let change = instead(&first, &wanted, &had);
        let check = LAB.check(change.clone());
        let changed = LAB.ok(change.clone());
        prop_assert_eq!(&check["changed"], &changed["changed"], "{:#}", change);
        let again = LAB.ok(change.clone());
        prop_assert_eq!(
            &again["actions"],
            &json!([]),
            "{:#}\n{:#}",
            change,
            again["diff"]
        );
        let fresh = LAB.ok(options(&second, &wanted));
        let (is, should) = (normal(&changed["config"]), normal(&fresh["config"]));
        // What is described was compared by meaning. What only the other one described must be gone.
        for place in had.keys().filter(|place| !wanted.contains_key(*place)) {
            let key = key(place);
            prop_assert_eq!(is.get(key), should.get(key), "{}: {:#}", key, change);
        }
        prop_assert_eq!(attached(&is), attached(&should));
        prop_assert_eq!(is.get("boot"), should.get("boot"));
        Ok(())
    });
    tried.unwrap();
}

/// The keys of what is attached, and of disks that are kept detached.
fn attached(config: &Map<String, Value>) -> Vec<&String> {
    let keys = config.keys();
    let device =
        |key: &&String| is_drive(key) || key.starts_with("net") || key.starts_with("unused");
    keys.filter(device).collect()
}
