use serde_json::{Value, json};

use super::*;

fn drive(value: Value) -> Drive {
    Drive::parse("scsi0", &value).unwrap()
}

fn edit(text: &str) -> Difference {
    Difference::Edit {
        text: Some(text.into()),
        grow: None,
    }
}

#[test]
fn texts_and_dicts_say_the_same() {
    for (dict, text) in [
        (
            json!({"storage": "zfs", "size": "32G", "discard": true, "iothread": true}),
            "zfs:32,discard=on,iothread=1",
        ),
        (json!({"storage": "zfs", "size": 32}), "zfs:32"),
        (
            json!({"storage": "zfs", "size": "512M", "ssd": false}),
            "zfs:0.5,ssd=0",
        ),
        (
            json!({"iso": "local:iso/a.iso"}),
            "local:iso/a.iso,media=cdrom",
        ),
        (
            json!({"volume": "none", "media": "cdrom"}),
            "none,media=cdrom",
        ),
        (
            json!({"storage": "zfs", "import_from": "local:import/d.qcow2"}),
            "zfs:0,import-from=local:import/d.qcow2",
        ),
    ] {
        assert_eq!(drive(dict.clone()), drive(json!(text)), "{dict}");
        assert_eq!(drive(dict).to_text(), text);
    }
    assert_eq!(
        drive(json!("local:iso/a.iso")).to_text(),
        "local:iso/a.iso,media=cdrom"
    );
    assert_eq!(drive(json!("none")).to_text(), "none,media=cdrom");
    assert_eq!(drive(json!("zfs:cloudinit")).to_text(), "zfs:cloudinit");
    let tpm = json!({"storage": "zfs", "version": 2.0});
    assert_eq!(
        Drive::parse("tpmstate0", &tpm).unwrap().to_text(),
        "zfs:1,version=v2.0"
    );
    let efi = json!({"storage": "zfs", "efitype": "4m", "pre_enrolled_keys": false});
    assert_eq!(
        Drive::parse("efidisk0", &efi).unwrap().to_text(),
        "zfs:1,efitype=4m,pre-enrolled-keys=0"
    );
}

#[test]
fn mistakes_are_explained() {
    for (value, part) in [
        (json!("zfs:32G"), "write zfs:32, "),
        (
            json!("zfs:512M"),
            "write zfs:0.5, or a dict, which takes units: {storage: zfs, size: 512M}",
        ),
        (json!("zfs:1T"), "write zfs:1024, "),
        (json!("zfs:10GB"), "write zfs:10, "),
        (json!("zfs:2 GiB"), "write zfs:2, "),
        (json!("zfs:524288k"), "write zfs:0.5, "),
        (json!("zfs:32,size=64G"), "give the size once"),
        (
            json!({"storage": "zfs", "size": 1, "serial": "a,ssd=1"}),
            "serial: ",
        ),
        (json!({"storage": "zfs:1,ssd=1", "size": 1}), "storage: "),
        (
            json!({"storage": "zfs", "size": 1, "cache": {"a": 1}}),
            "cache: expected text",
        ),
        (json!("32"), "storage:GiB"),
        (json!({"storage": "zfs"}), "needs a size"),
        (
            json!({"storage": "zfs", "size": "big"}),
            "'big' is not a size",
        ),
        (json!({"size": "1G"}), "exactly one of"),
        (
            json!({"storage": "a", "iso": "b:iso/c.iso", "size": 1}),
            "exactly one of",
        ),
        (json!(["zfs:32"]), "expected text or a dict"),
        (json!("zfs:32,ssd=1,ssd=0"), "twice"),
        (json!("zfs:0"), "larger than 0"),
        (json!("zfs:-1"), "larger than 0"),
        (json!({"storage": "zfs", "size": 0}), "larger than 0"),
        (json!({"storage": "zfs", "size": true}), "expected a size"),
        (json!("zfs: 1"), "contains a blank"),
        (json!("zfs:1,cache=wb"), "cache must be one of none, "),
        (json!("zfs:1,queues=1"), "queues must be a whole number"),
        (json!("zfs:1,iothread=maybe"), "iothread must be a boolean"),
        (
            json!({"storage": "zfs", "size": 1, "efitype": "4m"}),
            "efitype is not one of",
        ),
    ] {
        let error = Drive::parse("scsi0", &value).unwrap_err();
        assert!(
            error.starts_with("scsi0: ") && error.contains(part),
            "{error}"
        );
    }
}

#[test]
fn each_bus_has_its_own_options() {
    for (key, value, part) in [
        (
            "virtio0",
            json!({"storage": "zfs", "size": 1, "ssd": true}),
            "ssd is not an option of this drive; only of ide, sata, scsi",
        ),
        ("sata0", json!("zfs:1,iothread=1"), "only of scsi, virtio"),
        (
            "efidisk0",
            json!({"storage": "zfs", "type": "4m"}),
            "type is not one of efitype, format, ",
        ),
        (
            "efidisk0",
            json!({"storage": "zfs", "efitype": "4M"}),
            "efitype must be one of 2m, 4m",
        ),
        (
            "tpmstate0",
            json!({"storage": "zfs", "version": 3}),
            "version must be one of v1.2, v2.0",
        ),
    ] {
        let error = Drive::parse(key, &value).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
    Drive::parse("virtio0", &json!("zfs:1,iothread=1,ro=0")).unwrap();
    Drive::parse(
        "scsi0",
        &json!({"storage": "zfs", "size": "10 GiB", "ssd": 1}),
    )
    .unwrap();
    // What a later PVE may have.
    Drive::parse("scsi0", &json!("zfs:1,shiny=1")).unwrap();
}

#[test]
fn what_differs_in_meaning_is_edited_and_nothing_else() {
    let disk = "local:101/vm-101-disk-0.raw";
    let have = |options: &str| format!("{disk}{options},size=32G");
    for (want, have, expected) in [
        ("local:32", have(""), Difference::None),
        ("local:32,format=raw", have(""), Difference::None),
        (
            "local:32,mbps=10.0,wwn=0xAB",
            have(",mbps=10,wwn=0xab"),
            Difference::None,
        ),
        (
            "local:32,discard=ignore,backup=1,ssd=no",
            have(""),
            Difference::None,
        ),
        ("local:32,discard=on", have(",discard=on"), Difference::None),
        ("local:32,discard=on", have(""), edit(&have(",discard=on"))),
        ("local:32", have(",iothread=1"), edit(&have(""))),
        (
            "local:40,ssd=1",
            have(""),
            Difference::Edit {
                text: Some(have(",ssd=1")),
                grow: Some(40 << 30),
            },
        ),
        ("local:101/vm-101-disk-0.raw", have(""), Difference::None),
        (
            "local:101/vm-101-disk-0.raw,size=33G",
            have(""),
            Difference::Edit {
                text: None,
                grow: Some(33 << 30),
            },
        ),
        (
            "local:iso/a.iso,media=cdrom",
            "local:iso/a.iso,media=cdrom,size=352K".into(),
            Difference::None,
        ),
        (
            "local:iso/b.iso,media=cdrom",
            "local:iso/a.iso,media=cdrom,size=352K".into(),
            edit("local:iso/b.iso,media=cdrom"),
        ),
        (
            "none",
            "local:iso/a.iso,media=cdrom".into(),
            edit("none,media=cdrom"),
        ),
        (
            "local:cloudinit",
            "local:101/vm-101-cloudinit.qcow2,media=cdrom".into(),
            Difference::None,
        ),
        (
            "zfs:cloudinit",
            "zfs:vm-101-cloudinit,media=cdrom".into(),
            Difference::None,
        ),
    ] {
        let outcome = drive(json!(want)).against("scsi0", &drive(json!(have)));
        assert_eq!(outcome, expected, "{want} against {have}");
    }
}

#[test]
fn disks_are_never_shrunk_or_replaced() {
    let disk = "local:101/vm-101-disk-0.raw,size=32G";
    for (want, have, part) in [
        ("local:16", disk, "never shrunk"),
        (
            "local:32,format=qcow2",
            disk,
            "the disk is raw and not qcow2",
        ),
        (
            "zfs:32,format=qcow2",
            "zfs:vm-101-disk-0,size=32G",
            "the disk is raw and not qcow2",
        ),
        (
            "local:32,format=raw",
            "local:101/vm-101-disk-0.qcow2,size=32G",
            "the disk is qcow2 and not raw",
        ),
        ("zfs:32", "/dev/sdb", "on no storage"),
        ("local:101/vm-101-disk-7.raw", disk, "never replaced"),
        ("local:iso/a.iso,media=cdrom", disk, "there is a disk"),
        (
            "local:32",
            "local:iso/a.iso,media=cdrom",
            "there is a CD-ROM",
        ),
        (
            "none",
            "local:101/vm-101-cloudinit.qcow2,media=cdrom",
            "cloud-init drive",
        ),
        ("local:cloudinit", "none,media=cdrom", "remove it first"),
    ] {
        let outcome = drive(json!(want)).against("scsi0", &drive(json!(have)));
        assert!(
            matches!(&outcome, Difference::Refused(text) if text.contains(part)),
            "{want} against {have}: {outcome:?}"
        );
    }
}

#[test]
fn a_disk_on_another_storage_moves() {
    let have = drive(json!("local:101/vm-101-disk-0.raw,size=32G"));
    assert_eq!(
        drive(json!("zfs:32")).against("scsi0", &have),
        Difference::Move("zfs".into())
    );
}

#[test]
fn state_disks_are_compared_by_what_is_described() {
    let have = drive(json!(
        "local:130/vm-130-disk-4.raw,efitype=4m,ms-cert=2023,size=528K"
    ));
    let same = drive(json!("local:1,efitype=4m"));
    assert_eq!(same.against("efidisk0", &have), Difference::None);
    let other = drive(json!("local:1,efitype=4m,pre-enrolled-keys=1"));
    assert!(matches!(
        other.against("efidisk0", &have),
        Difference::Refused(_)
    ));
}
