//! Snapshots, clones and what identifies a VM.

mod support;

use serde_json::{Value, json};
use support::Host;

const VM: &str = "/nodes/pve/qemu/101";
const SNAPSHOT: &str = "/nodes/pve/qemu/101/snapshot";

/// A call whose task ends well.
async fn ok(host: &Host, method: &str, path: &str, form: &str) {
    assert_eq!(host.run(method, path, form).await, "OK", "{path} {form}");
}

async fn refused(host: &Host, method: &str, path: &str, form: &str, reason: &str) {
    let answer = host.call(method, path, form).await;
    assert_eq!(answer.reason, reason, "{method} {path} {form}");
}

/// Write a byte all over the first 4 KiB of a disk.
fn write(host: &Host, file: &str, byte: u8) {
    qemu_io(host, file, &format!("write -P {byte} 0 4k"), true);
}

/// Is this byte all over the first 4 KiB of a disk?
fn holds(host: &Host, file: &str, byte: u8) -> bool {
    qemu_io(host, file, &format!("read -P {byte} 0 4k"), false)
}

fn qemu_io(host: &Host, file: &str, command: &str, must: bool) -> bool {
    let format = if file.ends_with("qcow2") {
        "qcow2"
    } else {
        "raw"
    };
    let output = std::process::Command::new("qemu-io")
        .args(["-f", format, "-c", command])
        .arg(host.storage(file))
        .output()
        .expect("qemu-io runs");
    let good =
        output.status.success() && !String::from_utf8_lossy(&output.stdout).contains("failed");
    assert!(good || !must, "{output:?}");
    good
}

async fn entry(host: &Host, name: &str) -> Value {
    let list = host.good("GET", SNAPSHOT, "").await;
    let list = list.as_array().expect("a list");
    let found = list.iter().find(|entry| entry["name"] == name);
    found.cloned().unwrap_or(Value::Null)
}

fn file(host: &Host) -> String {
    std::fs::read_to_string(host.dir.path().join("qemu-server/101.conf")).expect("a config")
}

#[tokio::test]
async fn a_snapshot_has_a_section_with_all_options_of_then_and_rollback_restores_all_but_the_notes()
{
    let host = Host::start().await;
    host.create(
        101,
        "name=web&memory=512&tags=one&description=first&scsi0=local%3A0.0625%2Cformat%3Dqcow2&scsi1=local-zfs%3A0.0625",
    )
    .await;
    let disks = [
        "local/images/101/vm-101-disk-0.qcow2",
        "local-zfs/vm-101-disk-0",
    ];
    for disk in disks {
        write(&host, disk, 1);
    }
    let before = host.config(101).await;
    let upid = host
        .good("POST", SNAPSHOT, "snapname=s1&description=a%0Ab")
        .await;
    assert_eq!(host.task(&upid).await, "OK");
    assert!(
        upid.as_str()
            .is_some_and(|upid| upid.contains(":qmsnapshot:101:"))
    );
    let log = host.log(&upid).await;
    assert_eq!(
        log,
        [
            "snapshotting 'drive-scsi0' (local:101/vm-101-disk-0.qcow2)",
            "snapshotting 'drive-scsi1' (local-zfs:vm-101-disk-0)",
            "TASK OK"
        ]
    );
    let text = file(&host);
    assert!(
        text.contains("\nparent: s1\n") && text.contains("\n[s1]\n#a\n#b\n"),
        "{text}"
    );
    let s1 = entry(&host, "s1").await;
    assert_eq!(
        (&s1["description"], &s1["vmstate"]),
        (&json!("a\nb"), &json!(0))
    );
    assert!(
        s1["snaptime"]
            .as_u64()
            .is_some_and(|time| time > 1_700_000_000)
    );
    assert!(s1["parent"].is_null() && s1["snapstate"].is_null());
    let current = entry(&host, "current").await;
    assert_eq!(
        (
            &current["description"],
            &current["running"],
            &current["parent"]
        ),
        (&json!("You are here!"), &json!(0), &json!("s1"))
    );
    assert_eq!(current["digest"], host.config(101).await["digest"]);

    let change = "memory=1024&tags=two&description=second&scsi2=local%3A0.0625&onboot=1";
    host.good("PUT", &format!("{VM}/config"), change).await;
    for disk in disks {
        write(&host, disk, 2);
    }
    assert_eq!(
        host.good("GET", &format!("{VM}/config"), "snapshot=s1")
            .await["memory"],
        "512"
    );
    refused(
        &host,
        "GET",
        &format!("{VM}/config"),
        "snapshot=no",
        "snapshot 'no' does not exist",
    )
    .await;
    ok(&host, "POST", &format!("{SNAPSHOT}/s1/rollback"), "").await;
    let after = host.config(101).await;
    for key in [
        "memory", "tags", "smbios1", "scsi0", "scsi1", "boot", "meta", "name",
    ] {
        assert_eq!(after[key], before[key], "{key}");
    }
    assert_ne!(after["vmgenid"], before["vmgenid"]);
    assert_eq!(after["description"], "second");
    assert_eq!(after["unused0"], "local:101/vm-101-disk-1.raw");
    assert!(after["scsi2"].is_null() && after["onboot"].is_null() && after["lock"].is_null());
    for disk in disks {
        assert!(holds(&host, disk, 1), "{disk}");
    }
}

#[tokio::test]
async fn a_rollback_stops_a_running_vm_which_stays_stopped_unless_start_is_given() {
    let host = Host::start().await;
    host.create(101, "scsi0=local%3A0.0625%2Cformat%3Dqcow2")
        .await;
    ok(&host, "POST", SNAPSHOT, "snapname=s1").await;
    let status =
        async || host.good("GET", &format!("{VM}/status/current"), "").await["status"].clone();
    ok(&host, "POST", &format!("{VM}/status/start"), "").await;
    ok(&host, "POST", &format!("{SNAPSHOT}/s1/rollback"), "").await;
    assert_eq!(status().await, "stopped");
    ok(&host, "POST", &format!("{SNAPSHOT}/s1/rollback"), "start=1").await;
    for _ in 0..200 {
        if status().await == "running" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let upid = host.good("POST", SNAPSHOT, "snapname=s2").await;
    assert_eq!(host.task(&upid).await, "OK");
    assert_eq!(
        host.log(&upid).await[0],
        "skipping guest filesystem freeze - disabled in VM options"
    );
    // With its memory a guest runs again.
    ok(&host, "POST", SNAPSHOT, "snapname=s3&vmstate=1").await;
    assert_eq!(entry(&host, "s3").await["vmstate"], 1);
    ok(&host, "POST", &format!("{VM}/status/stop"), "").await;
    ok(&host, "POST", &format!("{SNAPSHOT}/s3/rollback"), "").await;
    for _ in 0..200 {
        if status().await == "running" {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the VM does not run");
}

#[tokio::test]
async fn an_older_snapshot_on_qcow2_works_and_zfs_goes_back_to_the_latest_only() {
    let host = Host::start().await;
    let disk = "local/images/101/vm-101-disk-0.qcow2";
    host.create(101, "scsi0=local%3A0.0625%2Cformat%3Dqcow2")
        .await;
    for (name, byte) in [("s1", 1), ("s2", 2), ("s3", 3)] {
        write(&host, disk, byte);
        ok(&host, "POST", SNAPSHOT, &format!("snapname={name}")).await;
    }
    ok(&host, "POST", &format!("{SNAPSHOT}/s1/rollback"), "").await;
    assert!(holds(&host, disk, 1));
    assert_eq!(entry(&host, "current").await["parent"], "s1");
    // A snapshot with children goes; they become its parent's.
    ok(&host, "DELETE", &format!("{SNAPSHOT}/s2"), "").await;
    assert_eq!(entry(&host, "s3").await["parent"], "s1");
    assert_eq!(entry(&host, "s2").await, Value::Null);
    host.create(102, "scsi0=local-zfs%3A0.0625").await;
    let zfs = "/nodes/pve/qemu/102/snapshot";
    for name in ["z1", "z2"] {
        ok(&host, "POST", zfs, &format!("snapname={name}")).await;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(
        host.run("POST", &format!("{zfs}/z1/rollback"), "").await,
        "can't rollback, 'z1' is not most recent snapshot on 'local-zfs:vm-102-disk-0'"
    );
    ok(&host, "DELETE", &format!("{zfs}/z2"), "").await;
    ok(&host, "POST", &format!("{zfs}/z1/rollback"), "").await;
    ok(&host, "DELETE", "/nodes/pve/qemu/102", "").await;
    assert!(
        !host
            .storage("local-zfs/.snapshots/vm-102-disk-0@z1")
            .exists()
    );
}

#[tokio::test]
async fn snapshots_are_refused_with_the_texts_of_pve() {
    let host = Host::start().await;
    host.create(101, "scsi0=local%3A0.0625%2Cformat%3Dqcow2")
        .await;
    host.create(102, "scsi0=local%3A0.0625").await;
    ok(&host, "POST", SNAPSHOT, "snapname=s1").await;
    assert_eq!(
        host.run("POST", SNAPSHOT, "snapname=s1").await,
        "snapshot name 's1' already used"
    );
    refused(
        &host,
        "POST",
        SNAPSHOT,
        "snapname=current",
        "unable to use snapshot name 'current' (reserved name)",
    )
    .await;
    for name in ["pending", "PENDING"] {
        refused(
            &host,
            "POST",
            SNAPSHOT,
            &format!("snapname={name}"),
            "unable to use snapshot name 'pending' (reserved name)",
        )
        .await;
    }
    let long = |length| format!("snapname={}", "s".repeat(length));
    let answer = host.call("POST", SNAPSHOT, &long(41)).await;
    assert_eq!(
        (answer.status, &answer.json()["errors"]["snapname"]),
        (400, &json!("value may only be 40 characters long"))
    );
    ok(&host, "POST", SNAPSHOT, &long(40)).await;
    for name in ["1x", "a%20b"] {
        let answer = host
            .call("POST", SNAPSHOT, &format!("snapname={name}"))
            .await;
        let text = format!(
            "invalid format - invalid configuration ID '{}'\n",
            name.replace("%20", " ")
        );
        assert_eq!(
            (answer.status, &answer.json()["errors"]["snapname"]),
            (400, &json!(text))
        );
    }
    assert_eq!(
        host.run("POST", "/nodes/pve/qemu/102/snapshot", "snapname=s1")
            .await,
        "snapshot feature is not available"
    );
    for (vmid, has) in [(101, 1), (102, 0)] {
        let path = format!("/nodes/pve/qemu/{vmid}/feature");
        assert_eq!(
            host.good("GET", &path, "feature=snapshot").await,
            json!({"hasFeature": has, "nodes": ["pve"]})
        );
    }
    for (method, path) in [("POST", "/nope/rollback"), ("DELETE", "/nope")] {
        assert_eq!(
            host.run(method, &format!("{SNAPSHOT}{path}"), "").await,
            "snapshot 'nope' does not exist"
        );
    }
    refused(
        &host,
        "POST",
        &format!("{VM}/template"),
        "",
        "unable to create template, because VM contains snapshots",
    )
    .await;
    host.good("PUT", &format!("{SNAPSHOT}/s1/config"), "description=new")
        .await;
    assert_eq!(
        host.good("GET", &format!("{SNAPSHOT}/s1/config"), "").await["description"],
        "new"
    );
    // Without a description it does nothing, and asks for nothing.
    host.good("PUT", &format!("{SNAPSHOT}/nope/config"), "")
        .await;
    // A detached disk stays referenced by the snapshot, and grows as any other.
    ok(
        &host,
        "PUT",
        &format!("{VM}/resize"),
        "disk=scsi0&size=%2B1M",
    )
    .await;
    host.good("PUT", &format!("{VM}/config"), "delete=scsi0")
        .await;
    refused(
        &host,
        "PUT",
        &format!("{VM}/config"),
        "delete=unused0",
        "unable to delete 'local:101/vm-101-disk-0.qcow2' - volume is still in use (snapshot?)",
    )
    .await;
    ok(&host, "POST", &format!("{SNAPSHOT}/s1/rollback"), "").await;
    let config = host.config(101).await;
    assert!(
        config["scsi0"].is_string() && config["unused0"].is_null(),
        "{config}"
    );
    // Privileges.
    for (method, path, form) in [
        ("POST", "", "snapname=s9"),
        ("DELETE", "/s1", ""),
        ("PUT", "/s1/config", "description=x"),
    ] {
        let answer = host
            .call_as("provisioner", method, &format!("{SNAPSHOT}{path}"), form)
            .await;
        assert_eq!(
            answer.reason,
            "Permission check failed (/vms/101, VM.Snapshot)"
        );
    }
    let answer = host
        .call_as(
            "provisioner",
            "POST",
            &format!("{SNAPSHOT}/s1/rollback"),
            "",
        )
        .await;
    assert_eq!(
        answer.reason,
        "Permission check failed (/vms/101, VM.Snapshot|VM.Snapshot.Rollback)"
    );
}

#[tokio::test]
async fn a_snapshot_task_that_ends_in_the_middle_leaves_lock_snapshot_and_snapstate_prepare() {
    let host = Host::start().await;
    host.create(101, "scsi0=local%3A0.0625%2Cformat%3Dqcow2")
        .await;
    let rules = json!([{"path": SNAPSHOT, "method": "POST", "action": "slow-copy", "seconds": 60}]);
    std::fs::write(host.dir.path().join("faults.json"), rules.to_string()).expect("written");
    let upid = host.good("POST", SNAPSHOT, "snapname=s1").await;
    for _ in 0..500 {
        if entry(&host, "s1").await["snapstate"] == "prepare" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let path = format!("/nodes/pve/tasks/{}", upid.as_str().expect("a UPID"));
    host.good("DELETE", &path, "").await;
    refused(
        &host,
        "PUT",
        &format!("{VM}/config"),
        "memory=64",
        "VM is locked (snapshot)",
    )
    .await;
    for (path, text) in [
        (format!("{VM}/status/start"), "VM is locked (snapshot)"),
        (
            format!("{SNAPSHOT}/s1/rollback"),
            "unable to rollback to incomplete snapshot (snapstate = prepare)",
        ),
    ] {
        assert_eq!(host.run("POST", &path, "").await, text);
    }
    // What `qm unlock` does, and then a deletion with force.
    let text = file(&host).replace("lock: snapshot\n", "");
    std::fs::write(host.dir.path().join("qemu-server/101.conf"), text).expect("written");
    ok(&host, "DELETE", &format!("{SNAPSHOT}/s1"), "force=1").await;
    assert_eq!(entry(&host, "s1").await, Value::Null);
}

#[tokio::test]
async fn a_disk_without_the_snapshot_stops_a_deletion_which_force_passes_over() {
    let host = Host::start().await;
    host.create(
        101,
        "scsi0=local%3A0.0625%2Cformat%3Dqcow2&scsi1=local%3A0.0625%2Cformat%3Dqcow2",
    )
    .await;
    ok(&host, "POST", SNAPSHOT, "snapname=s1").await;
    let done = std::process::Command::new("qemu-img")
        .args(["snapshot", "-d", "s1"])
        .arg(host.storage("local/images/101/vm-101-disk-1.qcow2"))
        .status();
    assert!(done.is_ok_and(|status| status.success()));
    let failed = host.run("DELETE", &format!("{SNAPSHOT}/s1"), "").await;
    assert!(failed.contains("snapshot -d s1"), "{failed}");
    let text = file(&host);
    let (now, section) = text.split_once("\n[s1]\n").expect("the section");
    assert!(now.contains("lock: snapshot-delete\n"), "{text}");
    assert!(
        section.contains("snapstate: delete\n")
            && section.contains("unused0: local:101/vm-101-disk-0.qcow2\n")
            && section.contains("scsi1: local:101/vm-101-disk-1.qcow2,")
            && !section.contains("scsi0: "),
        "{text}"
    );
    for (method, path, form) in [("DELETE", "/s1", ""), ("POST", "", "snapname=s2")] {
        let answer = host.run(method, &format!("{SNAPSHOT}{path}"), form).await;
        assert_eq!(answer, "VM is locked (snapshot-delete)", "{method} {path}");
    }
    // What `qm unlock` does.
    let text = text.replace("lock: snapshot-delete\n", "");
    std::fs::write(host.dir.path().join("qemu-server/101.conf"), text).expect("written");
    ok(&host, "DELETE", &format!("{SNAPSHOT}/s1"), "force=1").await;
    assert_eq!(entry(&host, "s1").await, Value::Null);
    assert!(host.config(101).await["unused0"].is_null());
}

#[tokio::test]
async fn the_protection_of_a_vm_does_not_cover_its_snapshots() {
    let host = Host::start().await;
    host.create(101, "protection=1&scsi0=local%3A0.0625%2Cformat%3Dqcow2")
        .await;
    ok(&host, "POST", SNAPSHOT, "snapname=s1").await;
    ok(&host, "POST", &format!("{SNAPSHOT}/s1/rollback"), "").await;
    ok(&host, "DELETE", &format!("{SNAPSHOT}/s1"), "").await;
    assert_eq!(host.config(101).await["protection"], 1, "as it was before");
}

#[tokio::test]
async fn the_memory_of_a_guest_with_virtiofs_is_not_saved() {
    let host = Host::start().await;
    host.create(101, "scsi0=local%3A0.0625%2Cformat%3Dqcow2")
        .await;
    let path = host.dir.path().join("qemu-server/101.conf");
    let text = file(&host);
    std::fs::write(&path, format!("virtiofs0: share\n{text}")).expect("written");
    refused(
        &host,
        "POST",
        SNAPSHOT,
        "snapname=s1&vmstate=1",
        "Cannot live-migrate, snapshot (with RAM), or hibernate a VM with: virtiofs",
    )
    .await;
    ok(&host, "POST", SNAPSHOT, "snapname=s1").await;
    // Its section is removed by hand, and its name is taken again: no snapshot is its own ancestor.
    ok(&host, "POST", SNAPSHOT, "snapname=s2").await;
    let text = file(&host);
    let (before, rest) = text.split_once("\n[s1]\n").expect("s1");
    let (_, after) = rest.split_once("\n[s2]\n").expect("s2");
    std::fs::write(&path, format!("{before}\n[s2]\n{after}")).expect("written");
    let disk = host.storage("local/images/101/vm-101-disk-0.qcow2");
    let done = std::process::Command::new("qemu-img")
        .args(["snapshot", "-d", "s1"])
        .arg(disk)
        .status();
    assert!(done.is_ok_and(|status| status.success()));
    assert_eq!(entry(&host, "s2").await["parent"], "s1");
    ok(&host, "POST", SNAPSHOT, "snapname=s1").await;
    assert_eq!(entry(&host, "s2").await["parent"], Value::Null);
    assert_eq!(entry(&host, "s1").await["parent"], "s2");
}

#[tokio::test]
async fn a_full_clone_of_a_snapshot_has_its_disks_and_options() {
    let host = Host::start().await;
    let disk = "local/images/101/vm-101-disk-0.qcow2";
    host.create(101, "memory=256&scsi0=local%3A0.0625%2Cformat%3Dqcow2")
        .await;
    write(&host, disk, 1);
    ok(&host, "POST", SNAPSHOT, "snapname=s1").await;
    write(&host, disk, 2);
    host.good("PUT", &format!("{VM}/config"), "memory=1024")
        .await;
    ok(
        &host,
        "POST",
        &format!("{VM}/clone"),
        "newid=102&full=1&snapname=s1",
    )
    .await;
    let clone = host.config(102).await;
    assert_eq!(clone["memory"], "256");
    assert!(
        clone["parent"].is_null() && clone["snaptime"].is_null(),
        "{clone}"
    );
    assert!(holds(&host, "local/images/102/vm-102-disk-0.qcow2", 1));
    refused(
        &host,
        "POST",
        &format!("{VM}/clone"),
        "newid=103&full=1&snapname=s9",
        "snapshot 's9' does not exist",
    )
    .await;
}

#[tokio::test]
async fn the_smbios_uuid_and_vmgenid_are_the_callers_or_generated_and_new_in_every_clone() {
    let host = Host::start().await;
    let uuid = "11111111-2222-4333-8444-555555555555";
    let own = format!("smbios1=uuid%3D{uuid}%2Cserial%3DYWJj%2Cbase64%3D1&vmgenid={uuid}");
    let created = host
        .good_as_root(
            "POST",
            "/nodes/pve/qemu",
            &format!("vmid=101&{own}&tags=a&description=notes&scsi0=local%3A0.0625%2Cserial%3Dx1&net0=virtio%2Cbridge%3Dvmbr0"),
        )
        .await;
    assert_eq!(host.task(&created).await, "OK");
    let config = host.config(101).await;
    assert_eq!(
        config["smbios1"],
        format!("uuid={uuid},serial=YWJj,base64=1")
    );
    assert_eq!(config["vmgenid"], uuid);
    ok(&host, "POST", &format!("{VM}/clone"), "newid=102&full=1").await;
    let clone = host.config(102).await;
    let smbios = clone["smbios1"].as_str().expect("smbios1");
    assert!(
        !smbios.contains(uuid) && smbios.contains("serial=YWJj"),
        "{smbios}"
    );
    for key in ["vmgenid", "net0"] {
        assert_ne!(clone[key], config[key], "{key}");
    }
    for key in ["tags", "description", "meta"] {
        assert_eq!(clone[key], config[key], "{key}");
    }
    assert!(
        clone["scsi0"]
            .as_str()
            .is_some_and(|disk| disk.contains("serial=x1"))
    );
    // A VM without a generation gets none in its clone; `1` asks for a new one.
    let refusal = host
        .call("POST", "/nodes/pve/qemu", "vmid=103&vmgenid=0")
        .await;
    assert!(
        refusal
            .reason
            .contains("only root can set 'vmgenid' config"),
        "{}",
        refusal.reason
    );
    let created = host
        .good_as_root("POST", "/nodes/pve/qemu", "vmid=103&vmgenid=0")
        .await;
    assert_eq!(host.task(&created).await, "OK");
    ok(&host, "POST", "/nodes/pve/qemu/103/clone", "newid=104").await;
    assert_eq!(host.config(104).await["vmgenid"], "0");
    host.good_as_root("PUT", "/nodes/pve/qemu/104/config", "vmgenid=1")
        .await;
    assert_eq!(
        host.config(104).await["vmgenid"].as_str().map(str::len),
        Some(36)
    );
    host.create(105, "").await;
    let config = host.config(105).await;
    assert_eq!(config["vmgenid"].as_str().map(str::len), Some(36));
    assert!(
        config["smbios1"]
            .as_str()
            .is_some_and(|text| text.starts_with("uuid="))
    );
    refused(
        &host,
        "POST",
        "/nodes/pve/qemu/105/clone",
        "newid=106&full=0&storage=local",
        "parameter 'storage' not allowed for linked clones",
    )
    .await;
}
