//! Options of the cluster, and what depends on them: who may set which tags, and the next VMID.

mod support;

use serde_json::json;
use support::Host;

const CONFIG: &str = "/nodes/pve/qemu/101/config";

fn datacenter(host: &Host, text: &str) {
    std::fs::write(host.dir.path().join("datacenter.cfg"), text).expect("written");
}

async fn create(host: &Host, who: &str, form: &str) -> String {
    let answer = host.call_as(who, "POST", "/nodes/pve/qemu", form).await;
    match answer.status {
        200 => host.task(&answer.data()).await,
        _ => answer.reason,
    }
}

async fn change(host: &Host, who: &str, form: &str) -> String {
    host.call_as(who, "PUT", CONFIG, form).await.reason
}

#[tokio::test]
async fn with_restricted_tags_a_create_with_tags_by_a_non_root_token_fails_for_allowed_tags_too() {
    let host = Host::start().await;
    for kind in ["existing", "list", "none"] {
        datacenter(
            &host,
            &format!("user-tag-access: user-allow={kind},user-allow-list=good;fine\n"),
        );
        let refused = create(&host, "provisioner", "vmid=101&tags=good").await;
        let text = "unable to create VM 101 - 403 Permission check failed (/, Sys.Modify for modifying tag 'HASH(0x";
        assert!(refused.starts_with(text), "{kind}: {refused}");
        assert!(!host.dir.path().join("qemu-server/101.conf").exists());
        // Who may modify the cluster's options is not asked.
        assert_eq!(create(&host, "root", "vmid=102&tags=good").await, "OK");
        host.run("DELETE", "/nodes/pve/qemu/102", "").await;
    }
}

#[tokio::test]
async fn a_create_without_tags_then_a_put_with_allowed_tags_works_and_with_none_no_tag_can_be_set()
{
    let host = Host::start().await;
    host.create(100, "tags=known").await;
    let denied =
        |tag: &str| format!("Permission check failed (/, Sys.Modify for modifying tag '{tag}')");
    assert_eq!(create(&host, "provisioner", "vmid=101").await, "OK");
    for (kind, good, bad) in [("list", "fine;good", "known"), ("existing", "known", "new")] {
        datacenter(
            &host,
            &format!("user-tag-access: user-allow={kind},user-allow-list=good;fine\n"),
        );
        assert_eq!(
            change(&host, "provisioner", &format!("tags={good}")).await,
            "OK"
        );
        let answer = host
            .call_as("provisioner", "PUT", CONFIG, &format!("tags={good};{bad}"))
            .await;
        assert_eq!((answer.status, answer.reason), (403, denied(bad)), "{kind}");
        assert_eq!(host.config(101).await["tags"], good);
        // A tag that stays is not asked for; one that goes is.
        datacenter(
            &host,
            "user-tag-access: user-allow=none,user-allow-list=good\n",
        );
        assert_eq!(
            change(&host, "provisioner", &format!("tags={good}&memory=64")).await,
            "OK"
        );
        let first = good.split(';').next().unwrap_or_default();
        assert_eq!(
            change(&host, "provisioner", "delete=tags").await,
            denied(first)
        );
        assert_eq!(
            change(&host, "provisioner", &format!("tags={good};x")).await,
            denied("x")
        );
        assert_eq!(change(&host, "root", "delete=tags").await, "OK");
    }
    datacenter(&host, "registered-tags: secret\n");
    assert_eq!(change(&host, "provisioner", "tags=any").await, "OK");
    assert_eq!(
        change(&host, "provisioner", "tags=any;secret").await,
        denied("secret")
    );
    let answer = host
        .call_as("provisioner", "POST", CONFIG, "tags=secret")
        .await;
    assert_eq!(
        host.task(&answer.data()).await,
        format!("403 {}", denied("secret"))
    );
    assert_eq!(
        create(&host, "provisioner", "vmid=103&tags=secret").await,
        format!("unable to create VM 103 - 403 {}", denied("secret"))
    );
}

#[tokio::test]
async fn tag_style_says_how_tags_are_stored() {
    let host = Host::start().await;
    host.create(101, "tags=b;A;b").await;
    assert_eq!(host.config(101).await["tags"], "a;b");
    for (style, stored) in [
        ("case-sensitive=1", "A;a;b"),
        ("ordering=config", "b;a"),
        ("ordering=config,case-sensitive=1", "b;A;a"),
        ("ordering=alphabetical", "a;b"),
    ] {
        datacenter(&host, &format!("tag-style: {style}\n"));
        host.good("PUT", CONFIG, "tags=b;A;b;a").await;
        assert_eq!(host.config(101).await["tags"], stored, "{style}");
    }
}

#[tokio::test]
async fn without_sys_audit_the_options_show_only_allowed_tags_and_next_id_moves_nextid() {
    let host = Host::start().await;
    host.create(101, "tags=seen").await;
    assert_eq!(
        host.good("GET", "/cluster/options", "").await,
        json!({"allowed-tags": ["seen"]})
    );
    let form = "user-tag-access=user-allow%3Dlist%2Cuser-allow-list%3Dgood%3Bfine&registered-tags=r1&next-id=lower%3D500%2Cupper%3D900";
    host.good("PUT", "/cluster/options", form).await;
    assert_eq!(host.good("GET", "/cluster/nextid", "").await, "500");
    let all = host.good("GET", "/cluster/options", "").await;
    assert_eq!(
        all,
        json!({
            "allowed-tags": ["fine", "good", "r1", "seen"], "registered-tags": ["r1"],
            "next-id": {"lower": 500, "upper": 900},
            "user-tag-access": {"user-allow": "list", "user-allow-list": ["good", "fine"]},
        })
    );
    let some = host
        .call_as("provisioner", "GET", "/cluster/options", "")
        .await;
    assert_eq!(some.data(), json!({"allowed-tags": ["fine", "good"]}));
    let refused = host
        .call_as("provisioner", "PUT", "/cluster/options", "description=x")
        .await;
    assert_eq!(refused.reason, "Permission check failed (/, Sys.Modify)");
    host.good(
        "PUT",
        "/cluster/options",
        "delete=next-id&next-id=lower%3D101%2Cupper%3D102",
    )
    .await;
    assert_eq!(host.good("GET", "/cluster/nextid", "").await, "100");
    datacenter(&host, "next-id: lower=101,upper=102\n");
    assert_eq!(
        host.call("GET", "/cluster/nextid", "").await.reason,
        "unable to get any free VMID in range [101, 102]"
    );
}

#[tokio::test]
async fn a_node_tells_its_resolver_which_guests_without_name_servers_get() {
    let host = Host::start().await;
    let dns = json!({"search": "lan.example", "dns1": "192.0.2.53", "dns2": "192.0.2.54"});
    std::fs::write(
        host.dir.path().join("nodes.json"),
        json!({"pve": {"dns": dns}}).to_string(),
    )
    .expect("written");
    assert_eq!(host.good("GET", "/nodes/pve/dns", "").await, dns);
    let refused = host.call_as("empty", "GET", "/nodes/pve/dns", "").await;
    assert_eq!(
        refused.reason,
        "Permission check failed (/nodes/pve, Sys.Audit)"
    );
    host.create(
        101,
        "ide0=local%3Acloudinit&net0=virtio%2Cbridge%3Dvmbr0&ipconfig0=ip%3D10.77.0.9%2F24",
    )
    .await;
    let dump = host
        .good("GET", "/nodes/pve/qemu/101/cloudinit/dump", "type=network")
        .await;
    let dump = dump.as_str().expect("text");
    for word in ["192.0.2.53", "192.0.2.54", "lan.example"] {
        assert!(dump.contains(word), "{dump}");
    }
}
