//! Several nodes behind one address.

mod support;

use serde_json::{Value, json};
use support::Host;

async fn cluster() -> Host {
    Host::with(|options| options.nodes = ["pve", "b", "c"].map(Into::into).into()).await
}

/// What is said of the nodes from now on.
fn facts(host: &Host, facts: &Value) {
    std::fs::write(host.dir.path().join("nodes.json"), facts.to_string()).unwrap();
}

fn names(list: &Value, key: &str) -> Vec<String> {
    let list = list.as_array().unwrap();
    let mut names: Vec<String> = list
        .iter()
        .map(|entry| entry[key].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

async fn refused(host: &Host, method: &str, path: &str, form: &str) -> String {
    let answer = host.call(method, path, form).await;
    assert_eq!(answer.status, 500, "{method} {path}: {}", answer.reason);
    answer.reason
}

async fn make(host: &Host, node: &str, vmid: u32, form: &str) {
    let path = format!("/nodes/{node}/qemu");
    let done = host
        .run("POST", &path, &format!("vmid={vmid}&{form}"))
        .await;
    assert_eq!(done, "OK");
}

#[tokio::test]
async fn a_vm_belongs_to_one_node_and_its_id_to_the_cluster() {
    let host = cluster().await;
    make(&host, "b", 101, "name=one&scsi0=local:1").await;
    assert_eq!(
        names(&host.good("GET", "/nodes/b/qemu", "").await, "name"),
        ["one"]
    );
    assert_eq!(host.good("GET", "/nodes/pve/qemu", "").await, json!([]));
    for (method, path, form) in [
        ("GET", "/nodes/pve/qemu/101/config", ""),
        ("GET", "/nodes/pve/qemu/101/status/current", ""),
        ("PUT", "/nodes/pve/qemu/101/config", "memory=512"),
        ("DELETE", "/nodes/pve/qemu/101", ""),
        ("POST", "/nodes/pve/qemu/101/migrate", "target=c"),
    ] {
        assert_eq!(
            refused(&host, method, path, form).await,
            "Configuration file 'nodes/pve/qemu-server/101.conf' does not exist"
        );
    }
    assert_eq!(
        refused(&host, "POST", "/nodes/c/qemu", "vmid=101").await,
        "unable to create VM 101 - VM 101 already exists on node 'b'"
    );
    assert_eq!(host.good("GET", "/cluster/nextid", "vmid=102").await, "102");
    assert_eq!(
        host.call("GET", "/cluster/nextid", "vmid=101").await.status,
        400
    );
    let upid = host
        .good("POST", "/nodes/b/qemu/101/status/start", "")
        .await;
    assert!(upid.as_str().unwrap().starts_with("UPID:b:"), "{upid}");
    assert_eq!(host.task(&upid).await, "OK");
    assert_eq!(
        names(
            &host.good("GET", "/cluster/resources", "type=vm").await,
            "node"
        ),
        ["b"]
    );
}

#[tokio::test]
async fn local_storages_are_the_nodes_own_and_shared_ones_everybodys() {
    let host = cluster().await;
    make(&host, "b", 101, "scsi0=local:1&scsi1=shared:1").await;
    for (node, storage, there) in [
        ("b", "local", true),
        ("c", "local", false),
        ("c", "shared", true),
        ("pve", "shared", true),
    ] {
        let path = format!("/nodes/{node}/storage/{storage}/content");
        let found = host.good("GET", &path, "vmid=101").await;
        assert_eq!(
            !found.as_array().unwrap().is_empty(),
            there,
            "{node} {storage}"
        );
    }
    let storages = host.good("GET", "/nodes/c/storage", "").await;
    let shared = storages.as_array().unwrap().iter();
    let shared: Vec<&Value> = shared.filter(|entry| entry["shared"] == 1).collect();
    assert_eq!((shared.len(), &shared[0]["storage"]), (1, &json!("shared")));
}

#[tokio::test]
async fn a_storage_may_be_on_some_nodes_only() {
    let dir = tempfile::tempdir().unwrap();
    let storages = json!([
        {"id": "local", "type": "dir", "content": ["images"]},
        {"id": "fast", "type": "dir", "content": ["images"], "nodes": ["b"]},
    ]);
    std::fs::write(dir.path().join("storage.json"), storages.to_string()).unwrap();
    let host = Host::with(|options| {
        options.nodes = ["pve", "b"].map(Into::into).into();
        std::fs::copy(
            dir.path().join("storage.json"),
            options.data.join("storage.json"),
        )
        .unwrap();
    })
    .await;
    assert_eq!(
        names(&host.good("GET", "/nodes/pve/storage", "").await, "storage"),
        ["local"]
    );
    assert_eq!(
        names(&host.good("GET", "/nodes/b/storage", "").await, "storage"),
        ["fast", "local"]
    );
    assert_eq!(
        refused(&host, "POST", "/nodes/pve/qemu", "vmid=101&scsi0=fast:1").await,
        "storage 'fast' is not available on node 'pve'"
    );
    make(&host, "b", 101, "scsi0=fast:1").await;
    assert_eq!(
        refused(&host, "POST", "/nodes/b/qemu/101/migrate", "target=pve").await,
        "storage 'fast' is not available on node 'pve'"
    );
    let seen = host.good("GET", "/nodes/b/qemu/101/migrate", "").await;
    assert_eq!(
        seen["not_allowed_nodes"]["pve"],
        json!({"unavailable_storages": ["fast"]})
    );
}

#[tokio::test]
async fn a_node_can_be_taken_down_and_has_its_own_memory() {
    let host = cluster().await;
    make(&host, "b", 101, "name=one").await;
    facts(
        &host,
        &json!({"b": {"offline": true}, "c": {"maxmem": 8_u64 << 30, "mem": 1_u64 << 30, "bridges": ["vmbr9"]}}),
    );
    let answer = host.call("GET", "/nodes/b/qemu", "").await;
    assert_eq!(
        (answer.status, answer.reason.as_str()),
        (595, "Connection refused")
    );
    assert!(answer.body.is_empty());
    assert_eq!(
        host.call("PUT", "/nodes/b/qemu/101/config", "memory=512")
            .await
            .status,
        595
    );
    let nodes = host.good("GET", "/nodes", "").await;
    let of = |name: &str| {
        nodes
            .as_array()
            .unwrap()
            .iter()
            .find(|n| n["node"] == name)
            .cloned()
    };
    let (b, c) = (of("b").unwrap(), of("c").unwrap());
    assert_eq!((&b["status"], b.get("mem")), (&json!("offline"), None));
    assert_eq!(
        (&c["status"], &c["mem"], &c["maxmem"]),
        (&json!("online"), &json!(1_u64 << 30), &json!(8_u64 << 30))
    );
    assert_eq!(
        names(&host.good("GET", "/nodes/c/network", "").await, "iface"),
        ["vmbr9"]
    );
    let vms = host.good("GET", "/cluster/resources", "type=vm").await;
    assert_eq!(
        (&vms[0]["vmid"], &vms[0]["node"]),
        (&json!(101), &json!("b"))
    );
    facts(&host, &json!({}));
    assert_eq!(
        host.good("GET", "/nodes/b/qemu/101/config", "").await["name"],
        "one"
    );
}

#[tokio::test]
async fn a_stopped_vm_moves_with_its_disks() {
    let host = cluster().await;
    make(
        &host,
        "pve",
        101,
        "name=one&scsi0=local:1&ide0=local:cloudinit",
    )
    .await;
    let seen = host.good("GET", "/nodes/pve/qemu/101/migrate", "").await;
    assert_eq!(seen["allowed_nodes"], json!(["b", "c"]));
    assert_eq!(seen["local_disks"].as_array().unwrap().len(), 2);
    let upid = host
        .good("POST", "/nodes/pve/qemu/101/migrate", "target=b")
        .await;
    assert_eq!(host.task(&upid).await, "OK");
    let log = host.log(&upid).await;
    for part in [
        "starting migration of VM 101 to node 'b'",
        "migration finished successfully",
    ] {
        assert!(
            log.iter().any(|line| line.contains(part)),
            "{part}: {log:?}"
        );
    }
    assert_eq!(host.good("GET", "/nodes/pve/qemu", "").await, json!([]));
    let config = host.good("GET", "/nodes/b/qemu/101/config", "").await;
    assert_eq!((&config["name"], config.get("lock")), (&json!("one"), None));
    for (node, count) in [("pve", 0), ("b", 2)] {
        let path = format!("/nodes/{node}/storage/local/content");
        let volumes = host.good("GET", &path, "vmid=101").await;
        assert_eq!(volumes.as_array().unwrap().len(), count, "{node}");
    }
    assert_eq!(
        host.run("POST", "/nodes/b/qemu/101/status/start", "").await,
        "OK"
    );
}

#[tokio::test]
async fn a_running_vm_moves_when_it_is_asked_to() {
    let host = cluster().await;
    make(&host, "pve", 101, "scsi0=local:1").await;
    assert_eq!(
        host.run("POST", "/nodes/pve/qemu/101/status/start", "")
            .await,
        "OK"
    );
    let path = "/nodes/pve/qemu/101/migrate";
    assert_eq!(
        refused(&host, "POST", path, "target=b").await,
        "can't migrate running VM without --online"
    );
    assert_eq!(
        host.run("POST", path, "target=b&online=1").await,
        "migration aborted"
    );
    assert!(host.config(101).await.get("lock").is_none());
    let form = "target=b&online=1&with-local-disks=1";
    assert_eq!(host.run("POST", path, form).await, "OK");
    let now = host
        .good("GET", "/nodes/b/qemu/101/status/current", "")
        .await;
    assert_eq!(now["status"], "running");
}

#[tokio::test]
async fn what_does_not_move() {
    let host = cluster().await;
    host.iso("a.iso", 65536);
    make(&host, "pve", 101, "ide2=local:iso/a.iso,media%3Dcdrom").await;
    make(&host, "pve", 102, "memory=512").await;
    let upid = host
        .good("POST", "/nodes/pve/qemu/101/migrate", "target=b")
        .await;
    assert_eq!(host.task(&upid).await, "migration aborted");
    let log = host.log(&upid).await;
    let line = "can't migrate local disk 'local:iso/a.iso': local cdrom image";
    assert!(log.iter().any(|known| known.contains(line)), "{log:?}");
    assert_eq!(
        refused(&host, "POST", "/nodes/pve/qemu/101/migrate", "target=x").await,
        "no such cluster node 'x'"
    );
    let same = host
        .call("POST", "/nodes/pve/qemu/101/migrate", "target=pve")
        .await;
    assert_eq!(same.json()["errors"]["target"], "target is local node.");
    facts(&host, &json!({"b": {"offline": true}}));
    assert_eq!(
        host.run("POST", "/nodes/pve/qemu/102/migrate", "target=b")
            .await,
        "migration aborted"
    );
    let answer = host
        .call_as("empty", "POST", "/nodes/pve/qemu/102/migrate", "target=c")
        .await;
    assert_eq!(
        (answer.status, answer.reason.as_str()),
        (403, "Permission check failed (/vms/102, VM.Migrate)")
    );
}

#[tokio::test]
async fn a_clone_goes_to_another_node_from_shared_storage_only() {
    let host = cluster().await;
    make(&host, "pve", 101, "scsi0=local:1").await;
    make(&host, "pve", 102, "scsi0=shared:1").await;
    for vmid in [101, 102] {
        let path = format!("/nodes/pve/qemu/{vmid}/template");
        let done = host.good("POST", &path, "").await;
        assert_eq!(host.task(&done).await, "OK");
    }
    assert_eq!(
        refused(
            &host,
            "POST",
            "/nodes/pve/qemu/101/clone",
            "newid=103&target=b"
        )
        .await,
        "can't clone VM to node 'b' (VM uses local storage)"
    );
    let done = host
        .run(
            "POST",
            "/nodes/pve/qemu/102/clone",
            "newid=103&target=b&name=c1",
        )
        .await;
    assert_eq!(done, "OK");
    assert_eq!(
        names(&host.good("GET", "/nodes/b/qemu", "").await, "name"),
        ["c1"]
    );
}
