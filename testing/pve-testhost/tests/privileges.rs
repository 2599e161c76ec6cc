//! What an access control list grants, and what is refused without.

mod support;

use serde_json::{Value, json};
use support::Host;

/// Give `provisioner@pve` these roles instead of its own, as `(path, role)`.
fn acl(host: &Host, entries: &[(&str, &str)]) {
    let file = host.dir.path().join("access.json");
    let mut access: Value =
        serde_json::from_slice(&std::fs::read(&file).expect("a file")).expect("JSON");
    access["acl"] = entries
        .iter()
        .map(|(path, role)| json!({"path": path, "ugid": "provisioner@pve", "role": role}))
        .collect();
    let new = file.with_extension("new");
    std::fs::write(&new, access.to_string()).expect("written");
    std::fs::rename(new, file).expect("renamed");
}

async fn refused(host: &Host, method: &str, path: &str, form: &str) -> String {
    let answer = host.call_as("provisioner", method, path, form).await;
    assert_ne!(answer.status, 200, "{method} {path} {form}");
    answer.reason
}

#[tokio::test]
async fn an_acl_on_a_deeper_path_replaces_what_is_inherited() {
    let host = Host::start().await;
    host.create(101, "").await;
    acl(&host, &[("/", "Provisioner"), ("/vms/101", "PVEAuditor")]);
    assert_eq!(
        refused(&host, "POST", "/nodes/pve/qemu/101/status/start", "").await,
        "Permission check failed (/vms/101, VM.PowerMgmt)"
    );
    let held = host
        .call_as("provisioner", "GET", "/access/permissions", "")
        .await
        .data();
    assert_eq!(held["/vms/101"]["VM.Audit"], 1);
    assert!(held["/vms/101"]["VM.PowerMgmt"].is_null());
    assert_eq!(held["/vms"]["VM.PowerMgmt"], 1);
    assert_eq!(held["/storage"]["Datastore.Allocate"], 1);
    let one = host
        .call_as(
            "provisioner",
            "GET",
            "/access/permissions",
            "path=%2Fvms%2F101",
        )
        .await
        .data();
    assert_eq!(one.as_object().map(serde_json::Map::len), Some(1));
    // Another's only with Sys.Audit on /access.
    let others = "userid=root%40pam";
    assert_eq!(
        refused(&host, "GET", "/access/permissions", others).await,
        "Permission check failed (/access, Sys.Audit)"
    );
    let held = host
        .good("GET", "/access/permissions", "userid=provisioner%40pve")
        .await;
    assert_eq!(held["/vms/101"]["VM.Audit"], 1);
}

#[tokio::test]
async fn with_grants_on_a_pool_only_tags_ignore_the_pool_and_the_pool_needs_pool_audit() {
    let host = Host::start().await;
    host.good("POST", "/pools", "poolid=dev").await;
    acl(
        &host,
        &[
            ("/pool/dev", "PVEVMAdmin"),
            ("/storage", "PVEDatastoreUser"),
            ("/sdn", "PVESDNUser"),
        ],
    );
    let create = async |form: &str| {
        let answer = host
            .call_as("provisioner", "POST", "/nodes/pve/qemu", form)
            .await;
        assert_eq!(answer.status, 200, "{form}: {}", answer.reason);
        host.task(&answer.data()).await
    };
    assert_eq!(
        create("vmid=101&pool=dev&memory=64&scsi0=local%3A0.0625").await,
        "OK"
    );
    assert_eq!(
        create("vmid=102&pool=dev&tags=x").await,
        "unable to create VM 102 - 403 Permission check failed (/vms/102, VM.Config.Options)"
    );
    // Once it is in the pool, the pool's roles are its own.
    let answer = host
        .call_as("provisioner", "PUT", "/nodes/pve/qemu/101/config", "tags=x")
        .await;
    assert_eq!(answer.reason, "OK");
    assert_eq!(
        refused(&host, "GET", "/pools/dev", "").await,
        "Permission check failed (/pool/dev, Pool.Audit)"
    );
    assert_eq!(
        refused(&host, "POST", "/nodes/pve/qemu", "vmid=103").await,
        "Permission check failed"
    );
    let pool = host.good("GET", "/pools/dev", "").await;
    assert_eq!(pool["members"][0]["vmid"], 101);
}

#[tokio::test]
async fn mappings_need_no_root_but_mapping_use_and_spice_needs_hwtype() {
    let host = Host::start().await;
    host.create(101, "").await;
    let config = "/nodes/pve/qemu/101/config";
    for (form, reason) in [
        (
            "hostpci0=mapping%3Dgpu%2Cpcie%3D1",
            "Permission check failed (/mapping/pci/gpu, Mapping.Use)",
        ),
        (
            "usb0=mapping%3Dstick",
            "Permission check failed (/mapping/usb/stick, Mapping.Use)",
        ),
        (
            "hostpci0=0000%3A01%3A00.0",
            "only root can set 'hostpci0' config for non-mapped devices",
        ),
        (
            "usb0=host%3D1234%3A5678",
            "only root can set 'usb0' config for real devices",
        ),
    ] {
        assert_eq!(refused(&host, "PUT", config, form).await, reason);
    }
    let answer = host
        .call_as("provisioner", "PUT", config, "usb1=spice")
        .await;
    assert_eq!(answer.reason, "OK");
    acl(
        &host,
        &[("/", "Provisioner"), ("/mapping", "PVEMappingUser")],
    );
    for form in ["hostpci0=mapping%3Dgpu%2Cpcie%3D1", "usb0=mapping%3Dstick"] {
        let answer = host.call_as("provisioner", "PUT", config, form).await;
        assert_eq!(answer.reason, "OK", "{form}");
        // root's token may as well.
        host.good("PUT", config, form).await;
    }
    assert_eq!(
        host.call("PUT", config, "hostpci1=0000%3A01%3A00.0")
            .await
            .reason,
        "only root can set 'hostpci1' config for non-mapped devices"
    );
}
