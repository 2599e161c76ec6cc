//! Finding VMs and handling CD-ROM drives against the test host.

use ansible_module::FailureKind;
use std::time::Duration;

use deadline::Deadline;
use module_lab::Host;
use pve_client::{Client, Params};
use pve_module::{Connection, Guard, GuardedVm, Inventory, WriteError, cdrom, node_of};
use serde_json::json;

fn deadline() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

/// VM 101.
fn guarded<'a>(
    client: &'a Client,
    deadline: &'a Deadline,
    guard: Option<&'a Guard<'a>>,
) -> GuardedVm<'a> {
    GuardedVm {
        client,
        node: "pve",
        vmid: 101,
        deadline,
        guard,
    }
}

struct World {
    client: Client,
    /// Who has only what a test grants.
    other: Client,
    host: Host,
}

impl World {
    fn new() -> Self {
        let host = Host::start(|_| ());
        let client = |token| {
            let mut options = host.connection(token);
            for list in ["api_host", "tls_fingerprint"] {
                options[list] = json!([options[list]]);
            }
            let connection: Connection = serde_json::from_value(options).unwrap();
            connection.client().unwrap()
        };
        let (client, other) = (client(None), client(Some("empty")));
        std::fs::write(host.stored("x.iso"), b"an iso").unwrap();
        Self {
            client,
            other,
            host,
        }
    }

    async fn create(&self, vmid: u32, name: &str) {
        let params = Params::new()
            .with("vmid", vmid)
            .with("name", name)
            .with("tags", "b;a")
            .with("scsi0", "local:0.01")
            .with("ide2", "local:iso/x.iso,media=cdrom")
            .with("boot", "order=scsi0;ide2");
        self.client
            .post_task("/nodes/pve/qemu", &params, &deadline(), |_| ())
            .await
            .unwrap();
    }

    async fn boot(&self, vmid: u32) -> Vec<String> {
        cdrom::boot_order(
            &self
                .client
                .vm_pending("pve", vmid, &deadline())
                .await
                .unwrap(),
        )
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vms_are_found_by_number_and_name() {
    let world = World::new();
    world.create(101, "web").await;
    world.create(102, "db").await;
    world.create(103, "web").await;
    let inventory = Inventory::read(&world.client, &deadline()).await.unwrap();
    assert_eq!(inventory.online, ["pve"]);
    let web = inventory.by_vmid(101).unwrap();
    assert_eq!((web.node.as_str(), web.vm.name.as_str()), ("pve", "web"));
    assert_eq!(web.vm.status, "stopped");
    assert!(inventory.by_vmid(104).is_none());
    let named = |name: &str| -> Vec<u32> {
        let mut vmids: Vec<u32> = inventory
            .by_name(name)
            .iter()
            .map(|seen| seen.vm.vmid)
            .collect();
        vmids.sort_unstable();
        vmids
    };
    assert_eq!(named("Web"), [101, 103]);
    assert!(named("we").is_empty());
    let node = node_of(&world.client, 102, &deadline()).await.unwrap();
    assert_eq!(node.as_deref(), Some("pve"));
    assert_eq!(
        node_of(&world.client, 104, &deadline()).await.unwrap(),
        None
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cdrom_comes_and_goes_without_touching_boot() {
    let world = World::new();
    let client = &world.client;
    world.create(101, "web").await;
    let limit = deadline();
    let vm = guarded(client, &limit, None);
    cdrom::attach(&vm, "ide0", "local:iso/x.iso").await.unwrap();
    assert_eq!(world.boot(101).await, ["scsi0", "ide2"]);
    let config = client
        .vm_config("pve", 101, false, &deadline())
        .await
        .unwrap();
    assert!(
        config["ide0"]
            .as_str()
            .unwrap()
            .starts_with("local:iso/x.iso,media=cdrom"),
        "{config:?}"
    );
    assert!(cdrom::detach(&vm, "ide0").await.unwrap());
    assert!(!cdrom::detach(&vm, "ide0").await.unwrap());
    assert_eq!(world.boot(101).await, ["scsi0", "ide2"]);
    // One that boots leaves the order, and the order of the rest stays.
    assert!(cdrom::detach(&vm, "ide2").await.unwrap());
    assert_eq!(world.boot(101).await, ["scsi0"]);
    assert!(
        !client
            .vm_config("pve", 101, false, &deadline())
            .await
            .unwrap()
            .contains_key("ide2")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_vm_loses_its_medium_at_once() {
    let world = World::new();
    let client = &world.client;
    world.create(101, "web").await;
    let limit = deadline();
    let vm = guarded(client, &limit, None);
    client
        .post_task(
            "/nodes/pve/qemu/101/status/start",
            &Params::new(),
            &deadline(),
            |_| (),
        )
        .await
        .unwrap();
    assert!(cdrom::detach(&vm, "ide2").await.unwrap());
    let current = client
        .vm_config("pve", 101, true, &deadline())
        .await
        .unwrap();
    assert!(
        !current
            .get("ide2")
            .is_some_and(|v| v.to_string().contains("x.iso")),
        "{current:?}"
    );
    assert_eq!(world.boot(101).await, ["scsi0"]);
    assert!(!cdrom::detach(&vm, "ide2").await.unwrap());
    // A drive that came while it runs is pending, and so is the order that is put back.
    cdrom::attach(&vm, "ide0", "local:iso/x.iso").await.unwrap();
    assert_eq!(world.boot(101).await, ["scsi0"]);
    client
        .post_task(
            "/nodes/pve/qemu/101/status/stop",
            &Params::new(),
            &deadline(),
            |_| (),
        )
        .await
        .unwrap();
    let config = client
        .vm_config("pve", 101, false, &deadline())
        .await
        .unwrap();
    assert!(
        !config.contains_key("ide2") && config.contains_key("ide0"),
        "{config:?}"
    );
    assert_eq!(config["boot"], "order=scsi0");
}

/// docs/privileges.md says what is enough to ask the guest agent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_role_may_ask_the_guest_agent() {
    let world = World::new();
    world.create(101, "web").await;
    let questions = [
        ("network-get-interfaces", vec![], "VM.GuestAgent.Audit"),
        (
            "file-read",
            vec![("file", "/etc/ssh/ssh_host_ed25519_key.pub".to_string())],
            "VM.GuestAgent.FileRead",
        ),
    ];
    for (question, query, missing) in &questions {
        let path = format!("/nodes/pve/qemu/101/agent/{question}");
        let refused = world.other.get(&path, query, &deadline()).await;
        let refused = pve_module::failure(refused.unwrap_err());
        assert_eq!(refused.kind, FailureKind::PermissionDenied, "{refused:?}");
        assert!(
            refused.hint.as_ref().unwrap().contains(missing),
            "{refused:?}"
        );
    }
    let text = include_str!("../../../docs/privileges.md");
    let commands = pve_testhost::pveum::sections(text, &["## The guest agent"]);
    world.host.grant(&commands);
    for (question, query, _) in &questions {
        let path = format!("/nodes/pve/qemu/101/agent/{question}");
        let answer = world.other.get(&path, query, &deadline()).await;
        // There is no agent in this VM, which only who may ask is told.
        let failed = answer.unwrap_err();
        assert_eq!(failed.status(), Some(500), "{failed}");
        assert!(failed.to_string().contains("agent"), "{failed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guard_is_asked_before_each_write() {
    let world = World::new();
    let client = &world.client;
    world.create(101, "web").await;
    let limit = deadline();
    let asked = std::cell::Cell::new(0);
    let twice = |config: &serde_json::Map<String, serde_json::Value>| {
        asked.set(asked.get() + 1);
        assert_eq!(config["name"], "web");
        match asked.get() {
            1 | 2 => Ok(()),
            _ => Err(ansible_module::Failure::new(
                FailureKind::TakenOver,
                "VM 101 was taken over",
            )),
        }
    };
    let vm = guarded(client, &limit, Some(&twice));
    vm.configure(&Params::new().with("memory", 64))
        .await
        .unwrap();
    // Ejected, and then not removed.
    let refused = cdrom::detach(&vm, "ide2").await.unwrap_err();
    assert!(
        matches!(&refused, WriteError::Refused(failure) if failure.kind == FailureKind::TakenOver)
    );
    assert_eq!(refused.doing("remove ide2").msg, "VM 101 was taken over");
    let config = client.vm_config("pve", 101, false, &limit).await.unwrap();
    assert_eq!(
        (&config["ide2"], asked.get()),
        (&json!("none,media=cdrom"), 3)
    );
}

/// A configuration that changes after the guard accepted it is not written to before the guard sees it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_is_for_the_configuration_that_the_guard_saw() {
    let world = World::new();
    let client = &world.client;
    world.create(101, "web").await;
    let limit = deadline();
    let path = world.host.path("pve/qemu-server/101.conf");
    let seen = std::cell::RefCell::new(Vec::new());
    let guard = |config: &serde_json::Map<String, serde_json::Value>| {
        seen.borrow_mut().push(config["name"].clone());
        // Somebody renames it between this check and the write.
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("name: web\n", "name: other\n")).unwrap();
        Ok(())
    };
    let vm = guarded(client, &limit, Some(&guard));
    vm.configure(&Params::new().with("memory", 64))
        .await
        .unwrap();
    assert_eq!(*seen.borrow(), [json!("web"), json!("other")]);
}
