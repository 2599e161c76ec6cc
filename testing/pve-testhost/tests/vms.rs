//! VMs over the API, with simulated guests.

mod support;

use serde_json::{Value, json};
use support::Host;

const KEY: &str = "ssh-ed25519%2520AAAAC3NzaC1lZDI1NTE5AAAAIE2d4iOGEtUFAKpYqCbP8z9ZfS4cW2S3Y3y3FKqxUaRG%2520lab%2540example";

#[tokio::test]
async fn create_is_refused_as_pve_refuses() {
    let host = Host::start().await;
    host.create(101, "name=one").await;
    // body, status, reason, parameter, its text
    let table: &[(&str, u16, &str, &str, &str)] = &[
        (
            "vmid=101",
            500,
            "unable to create VM 101 - VM 101 already exists on node 'pve'",
            "",
            "",
        ),
        (
            "",
            400,
            "Parameter verification failed.",
            "vmid",
            "property is missing and it is not optional",
        ),
        (
            "vmid=110&scsi0=nope%3A2",
            500,
            "storage 'nope' does not exist",
            "",
            "",
        ),
        (
            "vmid=110&scsi0=noiso%3A2",
            400,
            "Parameter verification failed.",
            "storage",
            "storage 'noiso' does not support vm images",
        ),
        (
            "vmid=110&ide2=nope%3Aiso%2Fnone.iso%2Cmedia%3Dcdrom",
            500,
            "storage 'nope' does not exist",
            "",
            "",
        ),
        (
            "vmid=110&ide2=local%3Aiso%2Fx.iso",
            400,
            "Parameter verification failed.",
            "ide2",
            "explicit 'media=cdrom' is required for iso images",
        ),
        (
            "vmid=110&scsi0=local%3A0.5G",
            500,
            "unable to parse directory volume name '0.5G'",
            "",
            "",
        ),
        (
            "vmid=112&sshkeys=hello%2520world",
            500,
            "SSH public key validation error",
            "",
            "",
        ),
        (
            "vmid=112&args=-foo",
            500,
            "only root can set 'args' config",
            "",
            "",
        ),
        (
            "vmid=112&boot=order=ide2",
            400,
            "Parameter verification failed.",
            "boot",
            "invalid format - format error\nboot.legacy: value does not match the regex pattern\n",
        ),
    ];
    for (body, status, reason, param, text) in table {
        let answer = host.call("POST", "/nodes/pve/qemu", body).await;
        assert_eq!(
            (answer.status, answer.reason.as_str()),
            (*status, *reason),
            "{body}"
        );
        assert_eq!(
            answer.json()["message"],
            json!(format!("{reason}\n")),
            "{body}"
        );
        if !param.is_empty() {
            assert_eq!(answer.json()["errors"][param], json!(text), "{body}");
        }
    }
    // Only the task notices these, and leaves nothing.
    for (body, exit) in [
        (
            "vmid=110&scsi0=off%3A2",
            "unable to create VM 110 - storage 'off' is disabled",
        ),
        (
            "vmid=110&ide2=local%3Aiso%2Fnone.iso%2Cmedia%3Dcdrom",
            "unable to create VM 110 - volume 'local:iso/none.iso' does not exist",
        ),
    ] {
        assert_eq!(host.run("POST", "/nodes/pve/qemu", body).await, exit);
    }
    let two = host
        .run(
            "POST",
            "/nodes/pve/qemu",
            "vmid=110&ide0=local%3Acloudinit&ide1=local%3Acloudinit",
        )
        .await;
    assert_eq!(
        two,
        "unable to create VM 110 - ide1 - cloud-init drive is already attached at 'ide0'"
    );
    let gone = host.call("GET", "/nodes/pve/qemu/110/config", "").await;
    assert_eq!(
        gone.reason,
        "Configuration file 'nodes/pve/qemu-server/110.conf' does not exist"
    );
    assert!(
        !host
            .storage("local/images/110/vm-110-cloudinit.qcow2")
            .exists()
    );
}

#[tokio::test]
async fn a_new_vm_is_shaped_as_pve_shapes_it() {
    let host = Host::start().await;
    host.iso("x.iso", 360_448);
    let form = format!(
        "name=nixos-lab&memory=512&cores=2&tags=b-tag%3BA-Tag%3Bb-tag&scsihw=virtio-scsi-pci&efidisk0=local%3A1%2Cefitype%3D4m\
         &scsi0=local%3A2&ide2=local%3Aiso%2Fx.iso%2Cmedia%3Dcdrom&ide0=local%3Acloudinit&net0=virtio%2Cbridge%3Dvmbr0\
         &serial0=socket&agent=1&sshkeys={KEY}&ciuser=root&cipassword=secret&ipconfig0=ip%3D10.77.0.11%2F24%2Cgw%3D10.77.0.1\
         &description=a%0Ab&onboot=0"
    );
    host.create(101, &form).await;
    let config = host.config(101).await;
    for (key, value) in [
        (
            "efidisk0",
            json!("local:101/vm-101-disk-0.raw,efitype=4m,size=528K"),
        ),
        ("scsi0", json!("local:101/vm-101-disk-1.raw,size=2G")),
        (
            "ide0",
            json!("local:101/vm-101-cloudinit.qcow2,media=cdrom"),
        ),
        ("ide2", json!("local:iso/x.iso,media=cdrom,size=352K")),
        ("boot", json!("order=scsi0;ide0;net0")),
        ("tags", json!("a-tag;b-tag")),
        ("memory", json!("512")),
        ("cores", json!(2)),
        ("onboot", json!(0)),
        ("agent", json!("1")),
        ("cipassword", json!("**********")),
        ("description", json!("a\nb")),
        ("sshkeys", json!(KEY.replace("%25", "%"))),
    ] {
        assert_eq!(config[key], value, "{key}");
    }
    assert!(
        config["net0"].as_str().is_some_and(
            |net| net.starts_with("virtio=BC:24:11:") && net.ends_with(",bridge=vmbr0")
        )
    );
    assert_eq!(config["digest"].as_str().map(str::len), Some(40));
    // Plain text from create, a hash from PUT.
    let file = host.dir.path().join("qemu-server/101.conf");
    assert!(std::fs::read_to_string(&file).is_ok_and(|text| text.contains("cipassword: secret\n") && text.starts_with("#a\n#b\n")));
    host.good("PUT", "/nodes/pve/qemu/101/config", "cipassword=secret")
        .await;
    assert!(std::fs::read_to_string(&file).is_ok_and(|text| text.contains("cipassword: $5$")));
    // Nothing bootable is one blank.
    host.create(102, "name=bare").await;
    assert_eq!(host.config(102).await["boot"], " ");
    assert_eq!(host.good("GET", "/cluster/nextid", "").await, "100");
    assert_eq!(
        host.good("GET", "/nodes/pve/qemu/102/status/current", "")
            .await["qmpstatus"],
        "stopped"
    );
    let fresh = host.good("GET", "/cluster/resources", "type=vm").await;
    assert!(fresh.as_array().is_some_and(|vms| {
        vms.iter()
            .all(|vm| vm["status"] == "unknown" && vm["name"].is_null())
    }));
    // The flat storage has names of its own.
    host.create(103, "scsi0=local-zfs%3A1&ide0=local-zfs%3Acloudinit")
        .await;
    let config = host.config(103).await;
    assert_eq!(config["scsi0"], "local-zfs:vm-103-disk-0,size=1G");
    assert_eq!(config["ide0"], "local-zfs:vm-103-cloudinit,media=cdrom");
    assert_eq!(host.run("DELETE", "/nodes/pve/qemu/103", "").await, "OK");
    assert!(!host.storage("local-zfs/vm-103-disk-0").exists());
}

#[tokio::test]
async fn one_vmid_is_given_once() {
    let host = Host::start().await;
    let call = || host.call("POST", "/nodes/pve/qemu", "vmid=150");
    let (a, b, c) = tokio::join!(call(), call(), call());
    let mut statuses = [a.status, b.status, c.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 500, 500]);
}

#[tokio::test]
async fn config_changes_of_a_stopped_vm() {
    let host = Host::start().await;
    host.iso("x.iso", 512);
    host.create(
        130,
        "name=c1&scsi0=local%3A1&net0=virtio%2Cbridge%3Dvmbr0&boot=order%3Dscsi0%3Bnet0",
    )
    .await;
    let path = "/nodes/pve/qemu/130/config";
    for (body, status, reason) in [
        ("", 500, "no options specified"),
        (
            "boot=order%3Dscsi9",
            500,
            "invalid bootorder: device 'scsi9' does not exist'",
        ),
        ("lock=backup", 500, "only root can set 'lock' config"),
        (
            "memory=129&skiplock=1",
            400,
            "Parameter verification failed.",
        ),
        ("delete=foo", 400, "Parameter verification failed."),
        (
            "memory=128&delete=memory",
            400,
            "Parameter verification failed.",
        ),
        (
            "memory=128&digest=0",
            500,
            "checksum mismatch (file change by other user?)",
        ),
        (
            "scsi2=local%3A130%2Fvm-130-disk-9.qcow2",
            500,
            "volume 'local:130/vm-130-disk-9.qcow2' does not exist",
        ),
        ("delete=tags", 200, "OK"),
    ] {
        let answer = host.call("PUT", path, body).await;
        assert_eq!(
            (answer.status, answer.reason.as_str()),
            (status, reason),
            "{body}"
        );
    }
    // Locked by another task, as a backup would.
    let file = host.dir.path().join("qemu-server/130.conf");
    let text = std::fs::read_to_string(&file).expect("a config");
    std::fs::write(&file, format!("{text}lock: backup\n")).expect("written");
    assert_eq!(
        host.call("PUT", path, "memory=128").await.reason,
        "VM is locked (backup)"
    );
    assert_eq!(
        host.run("POST", "/nodes/pve/qemu/130/status/start", "")
            .await,
        "VM is locked (backup)"
    );
    assert_eq!(
        host.good("GET", "/nodes/pve/qemu/130/status/current", "")
            .await["lock"],
        "backup"
    );
    std::fs::write(&file, text).expect("written");
    // A disk that is deleted stays as unused, until that is deleted.
    host.good("PUT", path, "scsi1=local%3A1").await;
    host.good("PUT", path, "delete=scsi1").await;
    assert_eq!(
        host.config(130).await["unused0"],
        "local:130/vm-130-disk-1.raw"
    );
    host.good("PUT", path, "delete=unused0").await;
    assert!(!host.storage("local/images/130/vm-130-disk-1.raw").exists());
    // Replaced: the old one is unused.
    host.good("PUT", path, "scsi4=local%3A2").await;
    host.good("PUT", path, "scsi4=local%3A3").await;
    let config = host.config(130).await;
    assert_eq!(
        (&config["unused0"], &config["scsi4"]),
        (
            &json!("local:130/vm-130-disk-1.raw"),
            &json!("local:130/vm-130-disk-2.raw,size=3G")
        )
    );
    // Another VM's disk stays that VM's.
    host.create(131, "scsi0=local%3A1").await;
    host.good("PUT", path, "scsi5=local%3A131/vm-131-disk-0.raw")
        .await;
    host.good("PUT", path, "delete=scsi5&force=1").await;
    assert!(host.config(130).await["unused1"].is_null());
    assert!(host.storage("local/images/131/vm-131-disk-0.raw").exists());
    // Every CD-ROM with a medium that is not in the boot order is appended; deleting takes it out.
    assert_eq!(config["boot"], "order=scsi0;net0");
    host.good("PUT", path, "ide2=local%3Aiso%2Fx.iso%2Cmedia%3Dcdrom")
        .await;
    assert_eq!(host.config(130).await["boot"], "order=scsi0;net0;ide2");
    host.good("PUT", path, "ide0=local%3Acloudinit").await;
    assert_eq!(host.config(130).await["boot"], "order=scsi0;net0;ide2");
    host.good("PUT", path, "delete=ide0%2Cide2").await;
    assert_eq!(host.config(130).await["boot"], "order=scsi0;net0");
    assert!(
        !host
            .storage("local/images/130/vm-130-cloudinit.qcow2")
            .exists()
    );
    assert!(host.storage("local/template/iso/x.iso").exists());
    // JSON, lists, repeated fields, POST as a task.
    let headers = format!(
        "{}Content-Type: application/json;charset=UTF-8\r\n",
        host.token("root")
    );
    let body = br#"{"memory": 160, "onboot": false, "agent": 1, "tags": "J"}"#;
    assert_eq!(
        host.raw("PUT", path, &headers, body)
            .await
            .map(|answer| answer.status),
        Some(200)
    );
    let config = host.config(130).await;
    assert_eq!(
        (&config["memory"], &config["onboot"], &config["tags"]),
        (&json!("160"), &json!(0), &json!("j"))
    );
    host.good("PUT", path, "delete=tags&delete=onboot").await;
    assert!(host.config(130).await["tags"].is_null());
    assert_eq!(host.run("POST", path, "scsi2=local%3A1").await, "OK");
    // MACs: kept when given, new when not.
    let before = host.config(130).await["net0"].clone();
    host.good("PUT", path, "net0=virtio%2Cbridge%3Dvmbr0").await;
    assert_ne!(host.config(130).await["net0"], before);
    // Sizes only grow.
    assert_eq!(
        host.run("PUT", "/nodes/pve/qemu/130/resize", "disk=scsi0&size=%2B1G")
            .await,
        "OK"
    );
    assert_eq!(
        host.config(130).await["scsi0"],
        "local:130/vm-130-disk-0.raw,size=2G"
    );
    assert_eq!(
        host.run("PUT", "/nodes/pve/qemu/130/resize", "disk=scsi0&size=1G")
            .await,
        "shrinking disks is not supported"
    );
    host.good("PUT", path, "protection=1").await;
    assert_eq!(
        host.call("DELETE", "/nodes/pve/qemu/130", "").await.reason,
        "can't remove VM 130 - protection mode enabled"
    );
}

fn pending(list: &Value, key: &str) -> Value {
    list.as_array()
        .into_iter()
        .flatten()
        .find(|entry| entry["key"] == key)
        .cloned()
        .unwrap_or(Value::Null)
}

#[tokio::test]
async fn a_running_vm_keeps_what_it_cannot_take() {
    let host = Host::start().await;
    host.iso("x.iso", 512);
    host.iso("y.iso", 512);
    host.create(
        131,
        "name=c2&memory=128&scsi0=local%3A1&ide2=local%3Aiso%2Fx.iso%2Cmedia%3Dcdrom&scsi3=local%3Aiso%2Fy.iso%2Cmedia%3Dcdrom\
         &ide0=local%3Acloudinit&ipconfig0=ip%3Ddhcp&ciuser=u&boot=order%3Dide2%3Bscsi0&net0=virtio%2Cbridge%3Dvmbr0",
    )
    .await;
    let vm = "/nodes/pve/qemu/131";
    let config = format!("{vm}/config");
    let list = || async { host.good("GET", &format!("{vm}/pending"), "").await };
    assert_eq!(
        host.run("POST", &format!("{vm}/status/start"), "").await,
        "OK"
    );
    assert_eq!(
        host.run("POST", &format!("{vm}/status/start"), "").await,
        "VM 131 already running"
    );
    // Eject and insert at once; a missing ISO is an error.
    host.good("PUT", &config, "ide2=none%2Cmedia%3Dcdrom").await;
    assert_eq!(
        pending(&list().await, "ide2"),
        json!({"key": "ide2", "value": "none,media=cdrom"})
    );
    host.good("PUT", &config, "ide2=local%3Aiso%2Fy.iso%2Cmedia%3Dcdrom")
        .await;
    let missing = host
        .call(
            "PUT",
            &config,
            "ide2=local%3Aiso%2Fnone.iso%2Cmedia%3Dcdrom",
        )
        .await;
    assert_eq!(missing.reason, "volume 'local:iso/none.iso' does not exist");
    // Deleting an IDE drive waits; GET config hides it already; an eject cancels it.
    host.good("PUT", &config, "delete=ide2").await;
    assert_eq!(pending(&list().await, "ide2")["delete"], 1);
    assert_eq!(pending(&list().await, "boot")["pending"], "order=scsi0");
    assert!(host.config(131).await["ide2"].is_null());
    assert!(host.good("GET", &config, "current=1").await["ide2"].is_string());
    host.good("PUT", &config, "ide2=none%2Cmedia%3Dcdrom").await;
    assert!(pending(&list().await, "ide2")["delete"].is_null());
    host.good("PUT", &config, "delete=ide2").await;
    // A later edit starts from the boot order in force: ide2 is back.
    host.good("PUT", &config, "ide1=local%3Aiso%2Fx.iso%2Cmedia%3Dcdrom")
        .await;
    assert_eq!(
        pending(&list().await, "boot")["pending"],
        "order=ide2;scsi0;ide1"
    );
    assert!(pending(&list().await, "ide1")["value"].is_null());
    // SCSI goes at once, unless it is what the VM booted from.
    host.good("PUT", &config, "delete=scsi3").await;
    assert!(pending(&list().await, "scsi3").is_null());
    let boot = host.call("PUT", &config, "delete=scsi0").await;
    assert_eq!(boot.status, 400);
    assert_eq!(
        boot.json()["errors"]["scsi0"],
        "hotplug problem - can't unplug bootdisk 'scsi0'\n"
    );
    assert_eq!(pending(&list().await, "scsi0")["delete"], 1);
    host.good("PUT", &config, "revert=scsi0").await;
    // What waits and what does not.
    host.good(
        "PUT",
        &config,
        "memory=256&name=c2b&description=d&tags=t&onboot=1&agent=1&cores=2&boot=order%3Dscsi0",
    )
    .await;
    let now = list().await;
    for key in ["memory", "agent", "cores", "boot"] {
        assert!(!pending(&now, key)["pending"].is_null(), "{key}");
    }
    for key in ["name", "description", "tags", "onboot"] {
        assert!(pending(&now, key)["pending"].is_null(), "{key}");
    }
    host.good("PUT", &config, "revert=cores").await;
    assert!(pending(&list().await, "cores").is_null());
    // Cloud-init: in the config at once, on the drive only when it is written.
    host.good("PUT", &config, "ciuser=changed").await;
    let drive = host.good("GET", &format!("{vm}/cloudinit"), "").await;
    assert_eq!(
        pending(&drive, "ciuser"),
        json!({"key": "ciuser", "value": "u", "pending": "changed"})
    );
    host.good("PUT", &format!("{vm}/cloudinit"), "").await;
    let drive = host.good("GET", &format!("{vm}/cloudinit"), "").await;
    assert_eq!(
        pending(&drive, "ciuser"),
        json!({"key": "ciuser", "value": "changed"})
    );
    let dump = host
        .good("GET", &format!("{vm}/cloudinit/dump"), "type=user")
        .await;
    assert!(
        dump.as_str()
            .is_some_and(|text| text.contains("user: changed\n"))
    );
    // The cloud-init drive's volume goes with its eject.
    assert!(
        host.storage("local/images/131/vm-131-cloudinit.qcow2")
            .exists()
    );
    host.good("PUT", &config, "ide0=none%2Cmedia%3Dcdrom").await;
    assert!(
        !host
            .storage("local/images/131/vm-131-cloudinit.qcow2")
            .exists()
    );
    assert_eq!(
        host.call("DELETE", vm, "").await.reason,
        "VM 131 is running - destroy failed"
    );
    assert_eq!(
        host.call("POST", &format!("{vm}/agent/ping"), "")
            .await
            .status,
        500
    );
    // An API stop puts what waited into force; the eject has appended ide0 to the boot order in force.
    assert_eq!(
        host.run("POST", &format!("{vm}/status/stop"), "").await,
        "OK"
    );
    let config = host.config(131).await;
    assert_eq!(
        (&config["memory"], &config["boot"]),
        (&json!("256"), &json!("order=ide2;scsi0;ide0"))
    );
    assert!(config["ide2"].is_null() && config["ide1"].is_string());
    assert_eq!(
        host.run("DELETE", vm, "purge=1&destroy-unreferenced-disks=1")
            .await,
        "OK"
    );
    assert!(host.storage("local/template/iso/x.iso").exists());
}

#[tokio::test]
async fn power() {
    let host = Host::start().await;
    host.create(132, "acpi=0").await;
    host.create(133, "name=obeys").await;
    host.create(134, "net0=virtio%2Cbridge%3Dvmbr9").await;
    assert_eq!(
        host.run("POST", "/nodes/pve/qemu/134/status/start", "")
            .await,
        "bridge 'vmbr9' does not exist"
    );
    let missing = host
        .run("POST", "/nodes/pve/qemu/999/status/start", "")
        .await;
    assert_eq!(
        missing,
        "Configuration file 'nodes/pve/qemu-server/999.conf' does not exist"
    );
    for action in ["stop", "shutdown"] {
        assert_eq!(
            host.run("POST", &format!("/nodes/pve/qemu/133/status/{action}"), "")
                .await,
            "OK",
            "{action}"
        );
    }
    for action in ["reset", "reboot"] {
        assert_eq!(
            host.call("POST", &format!("/nodes/pve/qemu/133/status/{action}"), "")
                .await
                .reason,
            "VM 133 not running"
        );
    }
    for vmid in [132, 133] {
        assert_eq!(
            host.run("POST", &format!("/nodes/pve/qemu/{vmid}/status/start"), "")
                .await,
            "OK"
        );
    }
    assert_eq!(
        host.run("POST", "/nodes/pve/qemu/133/status/shutdown", "")
            .await,
        "OK"
    );
    let ignored = host
        .run("POST", "/nodes/pve/qemu/132/status/shutdown", "timeout=1")
        .await;
    assert_eq!(ignored, "VM quit/powerdown failed - got timeout");
    host.run("POST", "/nodes/pve/qemu/132/status/suspend", "")
        .await;
    assert_eq!(
        host.good("GET", "/nodes/pve/qemu/132/status/current", "")
            .await["qmpstatus"],
        "paused"
    );
    // A shutdown holds the lock; `overrule-shutdown` ends it.
    let waiting = host
        .good("POST", "/nodes/pve/qemu/132/status/shutdown", "timeout=100")
        .await;
    assert_eq!(
        host.run(
            "POST",
            "/nodes/pve/qemu/132/status/stop",
            "overrule-shutdown=1"
        )
        .await,
        "OK"
    );
    assert_eq!(host.task(&waiting).await, "received interrupt");
    // A reboot ends while the VM is stopped; root starts it again.
    assert_eq!(
        host.run("POST", "/nodes/pve/qemu/133/status/start", "")
            .await,
        "OK"
    );
    assert_eq!(
        host.run("POST", "/nodes/pve/qemu/133/status/reboot", "")
            .await,
        "OK"
    );
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let tasks = host
            .good("GET", "/nodes/pve/tasks", "vmid=133&typefilter=qmstart")
            .await;
        if tasks.as_array().is_some_and(|tasks| {
            tasks
                .iter()
                .any(|task| task["user"] == "root@pam" && task["tokenid"].is_null())
        }) {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "no second start");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn privileges() {
    let host = Host::start().await;
    host.create(140, "").await;
    let call = |who: &'static str, method: &'static str, path: &'static str, form: &'static str| {
        host.call_as(who, method, path, form)
    };
    // No privilege at all: lists are empty, the rest is 403.
    assert_eq!(
        call("empty", "GET", "/nodes/pve/storage", "").await.data(),
        json!([])
    );
    assert_eq!(
        call("empty", "GET", "/nodes/pve/qemu", "").await.data(),
        json!([])
    );
    assert_eq!(
        call("empty", "GET", "/access/permissions", "").await.data(),
        json!({})
    );
    assert_eq!(
        call("empty", "GET", "/nodes", "").await.data()[0]["status"],
        "unknown"
    );
    assert_eq!(
        call("empty", "GET", "/nodes/pve/status", "").await.reason,
        "Permission check failed (/nodes/pve, Sys.Audit)"
    );
    assert_eq!(
        call("empty", "GET", "/nodes/pve/qemu/140/config", "")
            .await
            .reason,
        "Permission check failed (/vms/140, VM.Audit)"
    );
    // What provisioning needs is enough for provisioning.
    let create = "vmid=141&memory=512&cores=1&scsi0=local%3A1&net0=virtio%2Cbridge%3Dvmbr0&ide0=local%3Acloudinit&serial0=socket&agent=1&tags=x&ciuser=root";
    assert_eq!(
        call("provisioner", "POST", "/nodes/pve/qemu", create)
            .await
            .status,
        200
    );
    assert_eq!(
        call(
            "provisioner",
            "PUT",
            "/nodes/pve/qemu/140/config",
            "args=-x"
        )
        .await
        .reason,
        "only root can set 'args' config"
    );
    assert_eq!(
        call("provisioner", "GET", "/nodes/pve/tasks", "")
            .await
            .status,
        200
    );
    // Others' tasks are not its business.
    let upid = host
        .good("POST", "/nodes/pve/qemu/140/status/start", "")
        .await;
    let path = format!(
        "/nodes/pve/tasks/{}/status",
        upid.as_str().unwrap_or_default()
    );
    assert_eq!(
        host.call_as("provisioner", "GET", &path, "").await.status,
        403
    );
}

#[tokio::test]
async fn faults_and_the_request_log() {
    let host = Host::start().await;
    let rules = json!([
        {"method": "POST", "path": "/nodes/*/qemu", "nth": 1, "action": "596-after-effect"},
        {"method": "GET", "path": "/version", "nth": 1, "action": "drop-before"},
        {"path": "/nodes/pve/qemu/160/status/start", "action": "task-fail", "message": "broken"},
    ]);
    std::fs::write(host.dir.path().join("faults.json"), rules.to_string()).expect("written");
    let answer = host
        .call("POST", "/nodes/pve/qemu", "vmid=160&cipassword=sesame")
        .await;
    assert_eq!((answer.status, answer.body.len()), (596, 0));
    let tasks = host.good("GET", "/nodes/pve/tasks", "source=all").await;
    assert_eq!(host.task(&tasks[0]["upid"]).await, "OK");
    assert!(
        host.raw("GET", "/version", &host.token("root"), b"")
            .await
            .is_none()
    );
    assert_eq!(host.good("GET", "/version", "").await["release"], "9.2");
    assert_eq!(
        host.run("POST", "/nodes/pve/qemu/160/status/start", "")
            .await,
        "broken"
    );
    // A create that is made to fail leaves nothing.
    let rules = json!([{"path": "/nodes/pve/qemu", "method": "POST", "action": "full"}]);
    let file = host.dir.path().join("faults.json");
    std::fs::write(&file, rules.to_string()).expect("written");
    assert_eq!(
        host.run("POST", "/nodes/pve/qemu", "vmid=161").await,
        "No space left on device"
    );
    assert!(!host.dir.path().join("qemu-server/161.conf").exists());
    std::fs::write(&file, r#"[{"method": "PUT", "path": "^/nodes/pve/qemu/160/config$", "nth": 1, "action": "lock"}]"#).expect("written");
    let locked = host
        .call("PUT", "/nodes/pve/qemu/160/config", "memory=64")
        .await;
    assert_eq!(
        locked.reason,
        "can't lock file '/var/lock/qemu-server/lock-160.conf' - got timeout"
    );
    host.good("PUT", "/nodes/pve/qemu/160/config", "memory=64")
        .await;

    let log = std::fs::read_to_string(host.dir.path().join("requests.jsonl")).expect("a log");
    assert!(!log.contains("sesame"), "{log}");
    let records: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let versions = records
        .iter()
        .filter(|record| record["path"] == "/version")
        .count();
    assert_eq!(versions, 2);
    assert!(
        records
            .iter()
            .any(|record| record["path"] == "/version" && record["status"].is_null())
    );
}

#[tokio::test]
async fn task_logs() {
    let host = Host::start().await;
    let upid = host
        .good("POST", "/nodes/pve/qemu", "vmid=170&scsi0=local%3A1")
        .await;
    assert_eq!(host.task(&upid).await, "OK");
    let log = host.log(&upid).await;
    assert_eq!(log.last().map(String::as_str), Some("TASK OK"));
    assert!(
        log[1].contains("successfully created disk 'local:170/vm-170-disk-0.raw,size=1G'"),
        "{log:?}"
    );
    let status = host
        .good(
            "GET",
            &format!(
                "/nodes/pve/tasks/{}/status",
                upid.as_str().unwrap_or_default()
            ),
            "",
        )
        .await;
    assert_eq!(
        (
            &status["user"],
            &status["tokenid"],
            &status["type"],
            &status["id"]
        ),
        (
            &json!("root@pam"),
            &json!("full"),
            &json!("qmcreate"),
            &json!("170")
        )
    );
    let unknown = "UPID:pve:00000001:00000001:00000001:qmstart:1:root@pam:";
    let answer = host
        .call("GET", &format!("/nodes/pve/tasks/{unknown}/status"), "")
        .await;
    assert_eq!(answer.json()["errors"]["upid"], "no such task");
    assert_eq!(
        host.log(&json!(unknown)).await,
        ["unable to open file - No such file or directory"]
    );
    assert_eq!(
        host.good(
            "GET",
            &format!("/nodes/pve/tasks/{}/log", upid.as_str().unwrap_or_default()),
            "start=50"
        )
        .await,
        json!([])
    );
}

/// A call whose task ends well.
async fn ok(host: &Host, method: &str, path: &str, form: &str) {
    assert_eq!(host.run(method, path, form).await, "OK", "{path} {form}");
}

/// A call that is refused at once with this reason.
async fn refused(host: &Host, method: &str, path: &str, form: &str, reason: &str) {
    assert_eq!(
        host.call(method, path, form).await.reason,
        reason,
        "{path} {form}"
    );
}

#[tokio::test]
async fn templates_and_clones() {
    let host = Host::start().await;
    host.create(
        101,
        "name=golden&scsi0=local%3A0.0625&scsi1=local-zfs%3A0.0625&net0=virtio%2Cbridge%3Dvmbr0",
    )
    .await;
    ok(&host, "POST", "/nodes/pve/qemu/101/template", "").await;
    let base = host.config(101).await;
    assert_eq!(base["template"], json!(1));
    assert_eq!(
        base["scsi0"],
        json!("local:101/base-101-disk-0.raw,size=64M")
    );
    assert_eq!(base["scsi1"], json!("local-zfs:base-101-disk-0,size=64M"));
    refused(
        &host,
        "POST",
        "/nodes/pve/qemu/101/template",
        "",
        "you can't convert a template to a template",
    )
    .await;
    let start = host
        .run("POST", "/nodes/pve/qemu/101/status/start", "")
        .await;
    assert_eq!(start, "you can't start a vm if it's a template");

    ok(
        &host,
        "POST",
        "/nodes/pve/qemu/101/clone",
        "newid=102&name=linked",
    )
    .await;
    let linked = host.config(102).await;
    assert_eq!(
        linked["scsi0"],
        json!("local:101/base-101-disk-0.raw/102/vm-102-disk-0.qcow2,size=64M")
    );
    assert_eq!(
        linked["scsi1"],
        json!("local-zfs:base-101-disk-0/vm-102-disk-0,size=64M")
    );
    assert_eq!(linked["name"], json!("linked"));
    assert_eq!(linked.get("template"), None);
    for key in ["net0", "smbios1", "vmgenid"] {
        assert_ne!(linked.get(key), base.get(key), "{key}");
    }
    ok(
        &host,
        "POST",
        "/nodes/pve/qemu/101/clone",
        "newid=103&full=1&storage=local-zfs",
    )
    .await;
    let full = host.config(103).await;
    assert_eq!(full["scsi0"], json!("local-zfs:vm-103-disk-0,size=64M"));
    assert_eq!(full["name"], json!("Copy-of-VM-golden"));
    for (body, text) in [
        (
            "newid=102",
            "unable to create VM 102: config file already exists",
        ),
        (
            "newid=104&storage=local",
            "parameter 'storage' not allowed for linked clones",
        ),
        ("newid=104&pool=none", "pool 'none' does not exist"),
    ] {
        refused(&host, "POST", "/nodes/pve/qemu/101/clone", body, text).await;
    }
    assert_eq!(
        host.run("DELETE", "/nodes/pve/qemu/101", "").await,
        "base volume 'local:101/base-101-disk-0.raw' is still in use by linked cloned"
    );
    for vmid in [102, 103, 101] {
        ok(&host, "DELETE", &format!("/nodes/pve/qemu/{vmid}"), "").await;
    }
}

#[tokio::test]
async fn a_disk_moves_to_another_storage() {
    let host = Host::start().await;
    host.create(101, "scsi0=local%3A0.0625%2Cdiscard%3Don&ide2=none")
        .await;
    let disk = "/nodes/pve/qemu/101/move_disk";
    ok(&host, "POST", disk, "disk=scsi0&storage=local-zfs").await;
    let moved = host.config(101).await;
    assert_eq!(
        moved["scsi0"],
        json!("local-zfs:vm-101-disk-0,discard=on,size=64M")
    );
    assert_eq!(moved["unused0"], json!("local:101/vm-101-disk-0.raw"));
    ok(&host, "POST", disk, "disk=scsi0&storage=local&delete=1").await;
    let back = host.config(101).await;
    assert_eq!(
        back["scsi0"],
        json!("local:101/vm-101-disk-1.raw,discard=on,size=64M")
    );
    assert_eq!(back.get("unused1"), None);
    for (body, text) in [
        (
            "disk=scsi0&storage=local",
            "you can't move to the same storage with same format",
        ),
        ("disk=ide2&storage=local-zfs", "you can't move a cdrom"),
        (
            "disk=scsi3&storage=local-zfs",
            "disk 'scsi3' does not exist",
        ),
        (
            "disk=scsi0&storage=local-zfs&digest=0000000000000000000000000000000000000000",
            "checksum mismatch (file change by other user?)",
        ),
    ] {
        refused(&host, "POST", disk, body, text).await;
    }
}
