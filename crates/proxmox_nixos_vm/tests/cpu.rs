//! CPU models: what PVE would not take, or not start, is refused before anything is changed; what it takes is never refused.

mod common;

use common::{Lab, with};
use serde_json::{Value, json};

fn described(cpu: Value) -> Value {
    json!({"node": "pve", "name": "web", "memory": 128, "cpu": cpu})
}

fn define_models(lab: &Lab) {
    let text = "cpu-model: web\n    flags +aes;+avx2\n    reported-model Haswell\n";
    std::fs::write(lab.path("pve/cpu-models.conf"), text).unwrap();
}

#[test]
fn what_pve_takes_is_made_and_starts() {
    let lab = Lab::new();
    define_models(&lab);
    for (n, cpu) in [
        json!("host"),
        json!("x86-64-v2-AES"),
        json!(486),
        json!("Icelake-Client"),
        json!("max,flags=+aes;-pcid;+nested-virt,hidden=1,phys-bits=host,guest-phys-bits=40,hv-vendor-id=proxmox,level=30"),
        json!("custom-web"),
        json!({"cputype": "custom-web", "flags": ["+aes", "-md-clear"]}),
        json!({"cputype": "EPYC", "hv_vendor_id": "a1", "hidden": true}),
    ]
    .into_iter()
    .enumerate()
    {
        let options = with(described(cpu), json!({"name": format!("web{n}"), "state": "started"}));
        lab.check_alone(options.clone());
        lab.changed(options.clone());
        lab.unchanged(options);
    }
}

#[test]
fn what_pve_would_not_take_is_refused_beforehand() {
    let lab = Lab::new();
    define_models(&lab);
    for (cpu, part) in [
        (
            json!("hosst"),
            "cpu: node pve does not have the x86_64 CPU model 'hosst'; did you mean host?",
        ),
        (json!("Host"), "did you mean host?"),
        (
            json!({"cputype": "x86-64-V2-aes"}),
            "did you mean x86-64-v2-AES?",
        ),
        (json!("cortex-a57"), "'cortex-a57', it is one of aarch64"),
        (json!("web"), "did you mean custom-web?"),
        (json!("custom-Web"), "did you mean custom-web?"),
        (
            json!("custom-other"),
            "'custom-other'; pvesh get /nodes/pve/capabilities/qemu/cpu lists them",
        ),
        (
            json!("EPYC-v2"),
            "did you mean EPYC-v3, EPYC-v4 or EPYC-v5?",
        ),
        (
            json!("host,flags=+vmx"),
            "cpu: flag 'vmx' is supported in custom CPU models only; did you mean nested-virt?",
        ),
        (
            json!({"cputype": "max", "flags": ["+aes", "+AVX2"]}),
            "flag 'AVX2'",
        ),
        (json!("host,flags=aes"), "cpu: flags must be +FLAG or -FLAG"),
        (json!("flags=+aes"), "cpu: cputype is required"),
        (
            json!("host,reported-model=kvm64"),
            "cpu: reported-model must be left out",
        ),
        (
            json!("host,phys-bits=128"),
            "cpu: phys-bits must be host or a number between 8 and 64",
        ),
        (
            json!("host,hv-vendor-id=No-Way"),
            "cpu: hv-vendor-id must be 1 to 12 letters and digits",
        ),
    ] {
        let writes = lab.writes();
        for check in [true, false] {
            let options = with(
                described(cpu.clone()),
                json!({"_ansible_check_mode": check}),
            );
            let result = lab.fails(options);
            let msg = result["msg"].as_str().unwrap();
            assert!(msg.contains(part), "{part} in: {msg}");
        }
        assert_eq!(lab.writes(), writes, "{cpu}");
    }
    let options = with(described(json!("host")), json!({"config": {"kvm": 0}}));
    let msg = lab.fails(options)["msg"].clone();
    let msg = msg.as_str().unwrap();
    assert!(msg.contains("cpu: model 'host' requires KVM"), "{msg}");
}

#[test]
fn an_existing_vm_has_its_own_architecture() {
    let lab = Lab::new();
    lab.changed(json!({"node": "pve", "name": "web", "memory": 128}));
    let file = lab.path("pve/qemu-server/100.conf");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}arch: aarch64\n")).unwrap();
    for (cpu, part) in [
        ("x86-64-v3", "VM's architecture is aarch64"),
        (
            "host",
            "node pve does not have the aarch64 CPU model 'host'",
        ),
        ("cortexa72", "did you mean cortex-a72?"),
    ] {
        let result = lab.fails(described(json!(cpu)));
        let msg = result["msg"].as_str().unwrap();
        assert!(msg.contains(part), "{part} in: {msg}");
    }
    lab.changed(described(json!("cortex-a72")));
    lab.unchanged(described(json!("cortex-a72")));
    lab.changed(with(
        described(Value::Null),
        json!({"config": {"cpu": null}}),
    ));
}

#[test]
fn the_models_are_read_only_if_they_matter() {
    let lab = Lab::new();
    let read = || {
        let requests = lab.requests();
        let capability = |request: &&String| request.contains("/capabilities/");
        requests.iter().filter(capability).count()
    };
    lab.changed(json!({"node": "pve", "name": "plain", "memory": 128}));
    lab.changed(described(json!("host,flags=+aes")));
    assert_eq!(read(), 0);
    lab.changed(described(json!("max")));
    assert_eq!(read(), 1);
    lab.unchanged(described(json!("max")));
    lab.changed(with(described(json!("max")), json!({"memory": 256})));
    assert_eq!(read(), 1);
}

#[test]
fn a_server_that_does_not_list_its_models_decides_itself() {
    for status in [403, 500, 501] {
        let lab = Lab::new();
        lab.faults(json!([{"path": "*/capabilities/*", "action": "status", "status": status}]));
        lab.changed(described(json!("x86-64-v3")));
        let result = lab.fails(described(json!("hosst")));
        assert_eq!(result["error"]["kind"], "invalid_parameter", "{result:#}");
        let msg = result["msg"].as_str().unwrap();
        assert!(
            msg.contains("Built-in cputype 'hosst' is not defined"),
            "{msg}"
        );
    }
}
