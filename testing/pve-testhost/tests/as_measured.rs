//! What a real PVE 9.2 server did where this host once did otherwise: each test's name is what was seen there.

mod support;

use serde_json::{Value, json};
use support::Host;

const CONFIG: &str = "/nodes/pve/qemu/101/config";
const KEY: &str =
    "ssh-ed25519%2520AAAAC3NzaC1lZDI1NTE5AAAAIE2d4iOGEtUFAKpYqCbP8z9ZfS4cW2S3Y3y3FKqxUaRG%2520x";

fn faults(host: &Host, rules: &Value) {
    std::fs::write(host.dir.path().join("faults.json"), rules.to_string()).expect("written");
}

async fn pending(host: &Host, key: &str) -> Value {
    let list = host.good("GET", "/nodes/pve/qemu/101/pending", "").await;
    let list = list.as_array().expect("a list");
    let found = list.iter().find(|entry| entry["key"] == key);
    found.cloned().unwrap_or(Value::Null)
}

async fn start(host: &Host) {
    let path = "/nodes/pve/qemu/101/status/start";
    assert_eq!(host.run("POST", path, "").await, "OK");
}

#[tokio::test]
async fn a_new_cd_rom_is_appended_to_boot_only_if_boot_is_not_empty_and_never_a_cloud_init_drive() {
    let host = Host::start().await;
    host.iso("x.iso", 512);
    host.create(101, "").await;
    let boot = async || host.config(101).await["boot"].clone();
    assert_eq!(boot().await, " ");
    host.good("PUT", CONFIG, "ide2=local:iso/x.iso,media%3Dcdrom")
        .await;
    assert_eq!(boot().await, " ");
    host.good("PUT", CONFIG, "scsi0=local:0.0625").await;
    host.good("PUT", CONFIG, "boot=order%3Dscsi0").await;
    host.good("PUT", CONFIG, "ide0=local:cloudinit").await;
    assert_eq!(boot().await, "order=scsi0");
    host.good("PUT", CONFIG, "ide1=none,media%3Dcdrom").await;
    assert_eq!(boot().await, "order=scsi0;ide1");
    // When all that it named is deleted at once, it is empty.
    host.good("PUT", CONFIG, "delete=scsi0,ide1&ide3=none,media%3Dcdrom")
        .await;
    assert_eq!(boot().await, " ");
}

#[tokio::test]
async fn task_logs_show_formatting_transferred_generating_update_and_create_full_clone() {
    let host = Host::start().await;
    let upid = host
        .good(
            "POST",
            "/nodes/pve/qemu",
            "vmid=101&scsi0=local:0.0625&ide0=local:cloudinit&memory=64",
        )
        .await;
    assert_eq!(host.task(&upid).await, "OK");
    let log = host.log(&upid).await.join("\n");
    assert!(
        log.contains("vm-101-cloudinit.qcow2', fmt=qcow2 cluster_size=65536"),
        "{log}"
    );
    assert!(
        log.contains("vm-101-disk-0.raw', fmt=raw size=67108864 preallocation=off"),
        "{log}"
    );
    let upid = host.good("POST", CONFIG, "memory=192").await;
    assert_eq!(host.task(&upid).await, "OK");
    assert_eq!(host.log(&upid).await[0], "update VM 101: -memory 192");
    let upid = host
        .good("POST", "/nodes/pve/qemu/101/status/start", "")
        .await;
    assert_eq!(host.task(&upid).await, "OK");
    assert_eq!(
        host.log(&upid).await,
        ["generating cloud-init ISO", "TASK OK"]
    );
    host.run("POST", "/nodes/pve/qemu/101/status/stop", "")
        .await;
    let upid = host
        .good("POST", "/nodes/pve/qemu/101/clone", "newid=102")
        .await;
    assert_eq!(host.task(&upid).await, "OK");
    let log = host.log(&upid).await.join("\n");
    for line in [
        "creating a clone of VM 101 with ID 102",
        "create full clone of drive scsi0 (local:101/vm-101-disk-0.raw)",
        "Formatting '",
        "transferred 64.0 MiB of 64.0 MiB (100.00%)",
    ] {
        assert!(log.contains(line), "{line} in {log}");
    }
    // A resize says nothing.
    let upid = host
        .good("PUT", "/nodes/pve/qemu/101/resize", "disk=scsi0&size=%2B1M")
        .await;
    assert_eq!(host.task(&upid).await, "OK");
    assert_eq!(host.log(&upid).await, ["TASK OK"]);
}

#[tokio::test]
async fn a_guest_without_an_os_does_not_obey_a_shutdown_and_overruled_tasks_are_named() {
    let host = Host::start().await;
    host.create(101, "agent=1").await;
    let facts = json!({"101": {"os": false}});
    std::fs::write(host.dir.path().join("guests.json"), facts.to_string()).expect("written");
    start(&host).await;
    let shutdown = "/nodes/pve/qemu/101/status/shutdown";
    assert_eq!(
        host.run("POST", shutdown, "timeout=1").await,
        "VM quit/powerdown failed - got timeout"
    );
    let waiting = host.good("POST", shutdown, "timeout=100").await;
    // While a shutdown task runs, PUT and POST config get the lock timeout.
    let text = "can't lock file '/var/lock/qemu-server/lock-101.conf' - got timeout";
    let (put, post) = tokio::join!(
        host.call("PUT", CONFIG, "memory=64"),
        host.run("POST", CONFIG, "memory=64")
    );
    assert_eq!((put.reason.as_str(), post.as_str()), (text, text));
    let stop = host
        .good(
            "POST",
            "/nodes/pve/qemu/101/status/stop",
            "overrule-shutdown=1",
        )
        .await;
    assert_eq!(host.task(&stop).await, "OK");
    let waiting = waiting.as_str().expect("a UPID");
    assert_eq!(
        host.log(&stop).await[0],
        format!("overruled qmshutdown tasks: {waiting}")
    );
    std::fs::remove_file(host.dir.path().join("guests.json")).expect("removed");
    host.good("PUT", CONFIG, "acpi=0").await;
    start(&host).await;
    let upid = host.good("POST", shutdown, "timeout=1&forceStop=1").await;
    assert_eq!(host.task(&upid).await, "OK");
    let log = host.log(&upid).await;
    assert!(
        log[0].ends_with("VM 101 qga command 'guest-ping' failed - got timeout"),
        "{log:?}"
    );
    assert_eq!(log[1], "VM still running - terminating now with SIGTERM");
}

#[tokio::test]
async fn the_start_of_an_ovmf_vm_without_efidisk_ends_with_warnings_1() {
    let host = Host::start().await;
    host.create(101, "bios=ovmf").await;
    let upid = host
        .good("POST", "/nodes/pve/qemu/101/status/start", "")
        .await;
    assert_eq!(host.task(&upid).await, "WARNINGS: 1");
    let log = host.log(&upid).await;
    assert_eq!(
        log[0],
        "WARN: no efidisk configured! Using temporary efivars disk."
    );
}

#[tokio::test]
async fn empty_options_are_stored_as_a_blank_sshkeys_ignored_and_a_description_removed() {
    let host = Host::start().await;
    let keys = format!("{KEY}%250D%250A");
    host.create(
        101,
        &format!("sshkeys={keys}&tags=a&ciuser=b&description=c"),
    )
    .await;
    let stored = keys.replace("%25", "%");
    assert_eq!(host.config(101).await["sshkeys"], stored);
    host.good("PUT", CONFIG, "sshkeys=&tags=&ciuser=&description=")
        .await;
    let config = host.config(101).await;
    assert_eq!(config["sshkeys"], stored);
    assert_eq!(
        (&config["tags"], &config["ciuser"]),
        (&json!(" "), &json!(" "))
    );
    assert!(config["description"].is_null());
    let options = format!("no-pty%252Cfrom%253D%2522a%2520b%2522%2520{KEY}");
    host.good("PUT", CONFIG, &format!("sshkeys={options}"))
        .await;
    assert_eq!(
        host.config(101).await["sshkeys"],
        options.replace("%25", "%")
    );
    for bad in ["no-pty%2520ssh-ed25519", "%2523%2520comment"] {
        let answer = host.call("PUT", CONFIG, &format!("sshkeys={bad}")).await;
        assert_eq!(answer.reason, "SSH public key validation error");
    }
}

#[tokio::test]
async fn the_hash_of_a_password_has_an_eight_character_salt_and_no_rounds() {
    let host = Host::start().await;
    host.create(101, "").await;
    host.good("PUT", CONFIG, "cipassword=secret").await;
    let text =
        std::fs::read_to_string(host.dir.path().join("qemu-server/101.conf")).expect("a config");
    let hash = text
        .lines()
        .find_map(|line| line.strip_prefix("cipassword: "))
        .expect("a hash");
    let parts: Vec<&str> = hash.split('$').collect();
    assert_eq!(
        (parts[1], parts[2].len(), parts.len()),
        ("5", 8, 4),
        "{hash}"
    );
}

#[tokio::test]
async fn resources_of_a_vm_have_maxcpu_template_diskread_and_of_a_node_cgroup_mode() {
    let host = Host::start().await;
    host.create(101, "cores=2&serial0=socket&tags=a").await;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(40);
    let vm = loop {
        let list = host.good("GET", "/cluster/resources", "type=vm").await;
        if list[0]["name"].is_string() {
            break list[0].clone();
        }
        assert!(std::time::Instant::now() < deadline, "no broadcast");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    };
    assert_eq!(
        (
            &vm["maxcpu"],
            &vm["template"],
            &vm["diskread"],
            &vm["diskwrite"],
            &vm["tags"]
        ),
        (&json!(2), &json!(0), &json!(0), &json!(0), &json!("a"))
    );
    assert!(vm["cpus"].is_null() && vm["serial"].is_null(), "{vm}");
    let all = host.good("GET", "/cluster/resources", "").await;
    let find = |id: &str| {
        let list = all.as_array().into_iter().flatten();
        list.clone()
            .find(|entry| entry["id"] == id)
            .cloned()
            .unwrap_or_default()
    };
    let node = find("node/pve");
    assert_eq!(node["cgroup-mode"], 2);
    assert!(node["ssl_fingerprint"].is_null());
    assert_eq!(
        find("network/pve/zone/localnetwork")["network"],
        "localnetwork"
    );
}

#[tokio::test]
async fn get_cloudinit_never_has_ipconfig_and_for_a_stopped_vm_only_the_configs_value() {
    let host = Host::start().await;
    host.create(101, "ide0=local:cloudinit&ciuser=a&ipconfig0=ip%3Ddhcp")
        .await;
    let list = async || host.good("GET", "/nodes/pve/qemu/101/cloudinit", "").await;
    start(&host).await;
    host.run("POST", "/nodes/pve/qemu/101/status/stop", "")
        .await;
    host.good("PUT", CONFIG, "ciuser=b&ipconfig0=ip%3D10.77.0.9/24")
        .await;
    assert_eq!(list().await, json!([{"key": "ciuser", "value": "b"}]));
    start(&host).await;
    host.good("PUT", CONFIG, "ciuser=c&nameserver=192.0.2.1")
        .await;
    assert_eq!(
        list().await,
        json!([{"key": "ciuser", "value": "b", "pending": "c"}, {"key": "nameserver", "pending": "192.0.2.1"}])
    );
}

#[tokio::test]
async fn active_tasks_name_the_whole_token_and_statusfilter_filters() {
    let host = Host::start().await;
    host.create(101, "acpi=0").await;
    start(&host).await;
    let waiting = host
        .good("POST", "/nodes/pve/qemu/101/status/shutdown", "timeout=60")
        .await;
    let active = host.good("GET", "/nodes/pve/tasks", "source=active").await;
    assert_eq!(
        (
            &active[0]["user"],
            &active[0]["saved"],
            active[0].get("tokenid")
        ),
        (&json!("root@pam!full"), &json!("0"), None)
    );
    let upid = waiting.as_str().expect("a UPID");
    host.good("DELETE", &format!("/nodes/pve/tasks/{upid}"), "")
        .await;
    let archived = host.good("GET", "/nodes/pve/tasks", "").await;
    assert_eq!(
        (&archived[0]["user"], &archived[0]["tokenid"]),
        (&json!("root@pam"), &json!("full"))
    );
    let cluster = host.good("GET", "/cluster/tasks", "").await;
    assert_eq!(cluster[0]["saved"], "1");
    assert!(cluster[0].get("pid").is_none() && cluster[0].get("pstart").is_none());
    let count = async |filter: &str| {
        let list = host
            .good("GET", "/nodes/pve/tasks", &format!("statusfilter={filter}"))
            .await;
        list.as_array().map(Vec::len)
    };
    assert_eq!(
        (
            count("error").await,
            count("ok").await,
            count("ok,error").await
        ),
        (Some(1), Some(2), Some(3))
    );
}

#[tokio::test]
async fn a_pending_delete_that_failed_to_hot_unplug_does_not_fail_later_puts_of_other_drives() {
    let host = Host::start().await;
    host.iso("x.iso", 512);
    host.create(
        101,
        "scsi0=local:0.0625&ide2=local:iso/x.iso,media%3Dcdrom&boot=order%3Dscsi0;ide2",
    )
    .await;
    start(&host).await;
    assert_eq!(host.call("PUT", CONFIG, "delete=scsi0").await.status, 400);
    host.good("PUT", CONFIG, "scsi1=local:0.0625").await;
    host.good("PUT", CONFIG, "revert=scsi0").await;
    host.good("PUT", CONFIG, "revert=boot").await;
    // Insert or eject after a pending delete leaves no pending boot.
    for medium in ["none", "local:iso/x.iso"] {
        host.good("PUT", CONFIG, "delete=ide2").await;
        assert_eq!(pending(&host, "boot").await["pending"], "order=scsi0");
        host.good("PUT", CONFIG, &format!("ide2={medium},media%3Dcdrom"))
            .await;
        assert!(pending(&host, "boot").await["pending"].is_null());
        assert!(pending(&host, "ide2").await["delete"].is_null());
    }
}

#[tokio::test]
async fn a_second_cloud_init_drive_is_refused_by_the_key_of_the_first() {
    let host = Host::start().await;
    let text = "ide1 - cloud-init drive is already attached at 'ide0'";
    assert_eq!(
        host.run(
            "POST",
            "/nodes/pve/qemu",
            "vmid=101&ide0=local:cloudinit&ide1=local:cloudinit"
        )
        .await,
        format!("unable to create VM 101 - {text}")
    );
    host.create(101, "ide0=local:cloudinit").await;
    assert_eq!(
        host.call("PUT", CONFIG, "ide1=local:cloudinit")
            .await
            .reason,
        text
    );
}

#[tokio::test]
async fn refusals_name_the_parameters_that_pve_names() {
    let host = Host::start().await;
    host.create(101, "").await;
    let answer = host
        .call(
            "DELETE",
            "/nodes/pve/storage/local/content/second:iso/x.iso",
            "",
        )
        .await;
    assert_eq!(
        answer.json()["errors"]["volume"],
        "storage ID mismatch (second != local)"
    );
    std::fs::write(host.storage("local/snippets/h.pl"), "#!/bin/sh\n").expect("written");
    let answer = host
        .call("PUT", CONFIG, "hookscript=local:snippets/h.pl")
        .await;
    assert_eq!(
        (answer.status, &answer.json()["errors"]["hookscript"]),
        (
            400,
            &json!("script 'local:snippets/h.pl' is not executable\n")
        )
    );
    // ha-managed is a parameter of create only.
    let answer = host.call("PUT", CONFIG, "ha-managed=1").await;
    assert_eq!(
        answer.json()["errors"]["ha-managed"],
        "property is not defined in schema and the schema does not allow additional properties"
    );
    // Early errors of pveproxy have a text body equal to the reason.
    let headers = host.token("root");
    let answer = host
        .raw("DELETE", "/nodes/pve/qemu/101", &headers, b"x=1")
        .await
        .expect("an answer");
    assert_eq!(answer.status, 501);
    assert_eq!(String::from_utf8_lossy(&answer.body), answer.reason);
}

#[tokio::test]
async fn a_missing_disk_and_a_template_in_use_fail_in_the_task() {
    let host = Host::start().await;
    host.create(101, "scsi0=local:0.0625").await;
    assert_eq!(
        host.run("PUT", "/nodes/pve/qemu/101/resize", "disk=scsi5&size=%2B1M")
            .await,
        "disk 'scsi5' does not exist"
    );
    host.run("POST", "/nodes/pve/qemu/101/template", "").await;
    host.run("POST", "/nodes/pve/qemu/101/clone", "newid=102")
        .await;
    assert_eq!(
        host.run("DELETE", "/nodes/pve/qemu/101", "").await,
        "base volume 'local:101/base-101-disk-0.raw' is still in use by linked cloned"
    );
}

#[tokio::test]
async fn a_dead_pvedaemon_leaves_lock_create_without_a_task_and_a_killed_clone_its_lock() {
    let host = Host::start().await;
    faults(
        &host,
        &json!([
            {"method": "POST", "path": "/nodes/pve/qemu", "nth": 1, "action": "orphan"},
            {"method": "POST", "path": "/nodes/pve/qemu/102/clone", "action": "kill-worker"},
            {"method": "POST", "path": "/nodes/pve/qemu", "nth": 3, "action": "kill-worker"},
        ]),
    );
    let answer = host
        .call("POST", "/nodes/pve/qemu", "vmid=101&memory=64")
        .await;
    assert_eq!(
        (answer.status, answer.reason.as_str()),
        (596, "Connection timed out")
    );
    let config = host.config(101).await;
    assert_eq!(
        (&config["lock"], config.get("memory")),
        (&json!("create"), None)
    );
    assert_eq!(
        host.good("GET", "/nodes/pve/tasks", "source=all").await,
        json!([])
    );
    host.create(102, "scsi0=local:0.0625").await;
    let upid = host
        .good("POST", "/nodes/pve/qemu/102/clone", "newid=103")
        .await;
    assert_eq!(host.task(&upid).await, "unexpected status");
    let config = host.config(103).await;
    assert_eq!(
        (&config["lock"], &config["description"]),
        (&json!("clone"), &json!("qmclone temporary file"))
    );
    assert!(host.storage("local/images/103/vm-103-disk-0.raw").exists());
    assert_eq!(
        host.call("POST", "/nodes/pve/qemu/102/clone", "newid=103")
            .await
            .reason,
        "unable to create VM 103: config file already exists"
    );
    assert_eq!(
        host.run("POST", "/nodes/pve/qemu", "vmid=104").await,
        "unexpected status"
    );
    assert_eq!(host.config(104).await["lock"], "create");
}
