//! High availability: resources, rules and groups, and what they do to a VM.

mod support;

use serde_json::{Value, json};
use support::Host;

const RESOURCES: &str = "/cluster/ha/resources";
const RULES: &str = "/cluster/ha/rules";

async fn refused(host: &Host, method: &str, path: &str, form: &str) -> String {
    let answer = host.call(method, path, form).await;
    assert_ne!(answer.status, 200, "{method} {path} {form}");
    answer.reason
}

async fn wait_for(host: &Host, vmid: u32, status: &str) {
    let path = format!("/nodes/pve/qemu/{vmid}/status/current");
    for _ in 0..500 {
        if host.good("GET", &path, "").await["status"] == status {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("VM {vmid} is not {status}");
}

#[tokio::test]
async fn resources_are_made_once_of_vms_that_exist_and_deleted_only_when_managed() {
    let host = Host::start().await;
    host.create(101, "").await;
    let form = "sid=vm:101&state=stopped&max_restart=2&comment=x";
    assert_eq!(host.good("POST", RESOURCES, form).await, Value::Null);
    assert_eq!(
        refused(&host, "POST", RESOURCES, "sid=101").await,
        "create resource failed: resource ID 'vm:101' already defined"
    );
    assert_eq!(
        refused(&host, "POST", RESOURCES, "sid=vm:99999").await,
        "resource 'vm:99999' does not exist in cluster"
    );
    assert_eq!(
        refused(&host, "DELETE", &format!("{RESOURCES}/vm:100"), "").await,
        "cannot delete service 'vm:100', not HA managed!"
    );
    let one = host.good("GET", &format!("{RESOURCES}/vm:101"), "").await;
    assert_eq!(
        (&one["sid"], &one["state"], &one["max_restart"]),
        (&json!("vm:101"), &json!("stopped"), &json!(2))
    );
    assert!(one["digest"].is_string());
    host.good(
        "PUT",
        &format!("{RESOURCES}/vm:101"),
        "state=ignored&delete=comment",
    )
    .await;
    let list = host.good("GET", RESOURCES, "").await;
    assert_eq!(
        (list[0]["state"].as_str(), list[0].get("comment")),
        (Some("ignored"), None)
    );
    host.good("DELETE", &format!("{RESOURCES}/101"), "").await;
    assert_eq!(host.good("GET", RESOURCES, "").await, json!([]));
    // Adding takes Sys.Console on /, reading Sys.Audit on /.
    let answer = host
        .call_as("provisioner", "POST", RESOURCES, "sid=vm:101")
        .await;
    assert_eq!(answer.reason, "Permission check failed (/, Sys.Console)");
    let answer = host.call_as("provisioner", "GET", RESOURCES, "").await;
    assert_eq!(answer.reason, "Permission check failed (/, Sys.Audit)");
    let answer = host
        .call_as(
            "provisioner",
            "POST",
            "/nodes/pve/qemu",
            "vmid=102&ha-managed=1",
        )
        .await;
    assert_eq!(answer.reason, "Permission check failed (/, Sys.Console)");
}

#[tokio::test]
async fn rules_name_managed_resources_and_are_listed_with_order_and_digest() {
    let host = Host::start().await;
    for vmid in [101, 102] {
        host.create(vmid, "").await;
        host.good("POST", RESOURCES, &format!("sid=vm:{vmid}"))
            .await;
    }
    host.good(
        "POST",
        RULES,
        "rule=r1&type=node-affinity&resources=vm:101&nodes=pve:1&strict=1",
    )
    .await;
    host.good(
        "POST",
        RULES,
        "rule=r2&type=resource-affinity&affinity=positive&resources=vm:101,vm:102",
    )
    .await;
    let list = host.good("GET", RULES, "").await;
    assert_eq!(
        (&list[0]["rule"], &list[0]["order"], &list[0]["strict"]),
        (&json!("r1"), &json!(1), &json!(1))
    );
    assert_eq!(list[1]["order"], 2);
    assert!(list[1]["digest"].is_string());
    let of_102 = host.good("GET", RULES, "resource=vm:102").await;
    assert_eq!(of_102.as_array().map(Vec::len), Some(1));
    assert_eq!(
        refused(
            &host,
            "POST",
            RULES,
            "rule=r3&type=node-affinity&resources=vm:9761&nodes=pve"
        )
        .await,
        "create ha rule failed: cannot use unmanaged resource(s) vm:9761."
    );
    for (form, text) in [
        (
            "affinity=positive&resources=vm:101",
            "rule is ineffective as there are less than two resources",
        ),
        (
            "affinity=negative&resources=vm:101,vm:102",
            "rule defines more resources than available nodes",
        ),
    ] {
        let answer = host
            .call(
                "POST",
                RULES,
                &format!("rule=r3&type=resource-affinity&{form}"),
            )
            .await;
        assert_eq!(
            (answer.status, &answer.json()["errors"]["resources"]),
            (400, &json!(text))
        );
    }
    // The destruction of a VM takes it out of the rules.
    let vm = "/nodes/pve/qemu/101";
    assert_eq!(
        refused(&host, "DELETE", vm, "").await,
        "unable to remove VM 101 - used in HA resources and purge parameter not set."
    );
    assert_eq!(host.run("DELETE", vm, "purge=1").await, "OK");
    assert_eq!(
        host.good("GET", RESOURCES, "")
            .await
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    let list = host.good("GET", RULES, "").await;
    assert_eq!(
        (list.as_array().map(Vec::len), &list[0]["resources"]),
        (Some(1), &json!("vm:102"))
    );
}

#[tokio::test]
async fn the_start_of_an_ha_vm_is_a_task_hastart_and_the_real_start_follows() {
    let host = Host::start().await;
    host.create(101, "").await;
    host.good("POST", RESOURCES, "sid=vm:101&state=stopped")
        .await;
    let current = host
        .good("GET", "/nodes/pve/qemu/101/status/current", "")
        .await;
    assert_eq!(current["ha"], json!({"managed": 1}));
    let listed = host.good("GET", "/cluster/resources", "type=vm").await;
    assert_eq!(listed[0]["hastate"], "stopped");
    let upid = host
        .good("POST", "/nodes/pve/qemu/101/status/start", "")
        .await;
    assert!(
        upid.as_str()
            .is_some_and(|upid| upid.contains(":hastart:101:"))
    );
    assert_eq!(host.task(&upid).await, "OK");
    assert_eq!(host.log(&upid).await[0], "Requesting HA start for VM 101");
    wait_for(&host, 101, "running").await;
    let starts = host
        .good("GET", "/nodes/pve/tasks", "typefilter=qmstart&source=all")
        .await;
    assert_eq!(starts[0]["user"], "root@pam");
    let upid = host
        .good("POST", "/nodes/pve/qemu/101/status/shutdown", "")
        .await;
    assert!(
        upid.as_str()
            .is_some_and(|upid| upid.contains(":hastop:101:"))
    );
    wait_for(&host, 101, "stopped").await;
    // ha-managed at create makes no resource for a VM that the create does not start.
    host.create(102, "ha-managed=1").await;
    host.create(103, "ha-managed=1&start=1").await;
    let list = host.good("GET", RESOURCES, "").await;
    let sids: Vec<&str> = list
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|entry| entry["sid"].as_str())
        .collect();
    assert_eq!(sids, ["vm:101", "vm:103"]);
}

#[tokio::test]
async fn groups_are_gone_from_pve_9_and_there_on_pve_8() {
    let host = Host::start().await;
    host.create(101, "").await;
    let text = "cannot index groups: ha groups have been migrated to rules";
    assert_eq!(refused(&host, "GET", "/cluster/ha/groups", "").await, text);
    assert_eq!(
        refused(&host, "POST", "/cluster/ha/groups", "group=g1&nodes=pve").await,
        text
    );
    assert_eq!(
        refused(&host, "POST", RESOURCES, "sid=vm:101&group=g1").await,
        "invalid parameter 'group': ha groups have been migrated to rules"
    );
    std::fs::write(host.dir.path().join("ha.json"), r#"{"groups": {}}"#).expect("written");
    host.good(
        "POST",
        "/cluster/ha/groups",
        "group=g1&nodes=pve:1&restricted=1",
    )
    .await;
    let list = host.good("GET", "/cluster/ha/groups", "").await;
    assert_eq!(
        (&list[0]["group"], &list[0]["restricted"]),
        (&json!("g1"), &json!(1))
    );
    assert_eq!(
        refused(&host, "POST", RESOURCES, "sid=vm:101&group=g2").await,
        "HA group 'g2' does not exist"
    );
    host.good("POST", RESOURCES, "sid=vm:101&group=g1").await;
    assert_eq!(
        refused(
            &host,
            "POST",
            RULES,
            "rule=r1&type=node-affinity&resources=vm:101&nodes=pve"
        )
        .await,
        "Method 'POST /cluster/ha/rules' not implemented"
    );
}
