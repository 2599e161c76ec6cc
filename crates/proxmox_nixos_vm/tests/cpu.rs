//! CPU models: what PVE would not take, or not start, is refused before anything is changed; what it takes is never refused.

mod common;

use common::*;
use insta::assert_snapshot;
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
    let lab = lab();
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
    let lab = lab();
    define_models(&lab);
    let cases = [
        json!("hosst"),
        json!("Host"),
        json!({"cputype": "x86-64-V2-aes"}),
        json!("cortex-a57"),
        json!("web"),
        json!("custom-Web"),
        json!("custom-other"),
        json!("EPYC-v2"),
        json!("host,flags=+vmx"),
        json!({"cputype": "max", "flags": ["+aes", "+AVX2"]}),
        json!("host,flags=aes"),
        json!("flags=+aes"),
        json!("host,reported-model=kvm64"),
        json!("host,phys-bits=128"),
        json!("host,hv-vendor-id=No-Way"),
    ];
    let checks = cases
        .clone()
        .map(|cpu| json!({"cpu": cpu, "_ansible_check_mode": true}));
    let refused = lab.refuses_each(
        &described(Value::Null),
        cases.map(|cpu| json!({"cpu": cpu})),
    );
    assert_eq!(lab.refuses_each(&described(Value::Null), checks), refused);
    assert_snapshot!(refused, @"
    invalid_parameter: cpu: node pve does not have the x86_64 CPU model 'hosst'; did you mean host?
    invalid_parameter: cpu: node pve does not have the x86_64 CPU model 'Host'; did you mean host?
    invalid_parameter: cpu: node pve does not have the x86_64 CPU model 'x86-64-V2-aes'; did you mean x86-64-v2-AES?
    invalid_parameter: cpu: node pve does not have the x86_64 CPU model 'cortex-a57', it is one of aarch64; pvesh get /nodes/pve/capabilities/qemu/cpu lists them
    invalid_parameter: cpu: node pve does not have the x86_64 CPU model 'web'; did you mean custom-web?
    invalid_parameter: cpu: node pve does not have the x86_64 CPU model 'custom-Web'; did you mean custom-web?
    invalid_parameter: cpu: node pve does not have the x86_64 CPU model 'custom-other'; pvesh get /nodes/pve/capabilities/qemu/cpu lists them
    invalid_parameter: cpu: node pve does not have the x86_64 CPU model 'EPYC-v2'; did you mean EPYC-v3, EPYC-v4 or EPYC-v5?
    invalid_parameter: cpu: flag 'vmx' is supported in custom CPU models only; did you mean nested-virt? (flags of a VM: aes, amd-no-ssb, amd-ssbd, hv-evmcs, hv-tlbflush, ibpb, md-clear, nested-virt, pcid, pdpe1gb, spec-ctrl, ssbd, virt-ssbd)
    invalid_parameter: cpu: flag 'AVX2' is supported in custom CPU models only (flags of a VM: aes, amd-no-ssb, amd-ssbd, hv-evmcs, hv-tlbflush, ibpb, md-clear, nested-virt, pcid, pdpe1gb, spec-ctrl, ssbd, virt-ssbd)
    invalid_option: cpu: flags must be +FLAG or -FLAG, joined by ';' (got 'aes')
    invalid_option: cpu: cputype is required
    invalid_option: cpu: reported-model must be left out: only custom CPU models have it (got 'kvm64')
    invalid_option: cpu: phys-bits must be host or a number between 8 and 64 (got '128')
    invalid_option: cpu: hv-vendor-id must be 1 to 12 letters and digits (got 'No-Way')
    ");
    let options = with(described(json!("host")), json!({"config": {"kvm": 0}}));
    assert_snapshot!(lab.refuses(options), @"invalid_option: cpu: model 'host' requires KVM (got kvm: 0); use model 'max', or leave kvm out");
}

#[test]
fn an_existing_vm_has_its_own_architecture() {
    let lab = lab();
    lab.changed(json!({"node": "pve", "name": "web", "memory": 128}));
    lab.edit(100, |text| format!("{text}arch: aarch64\n"));
    let cases = [
        json!({"cpu": "x86-64-v3"}),
        json!({"cpu": "host"}),
        json!({"cpu": "cortexa72"}),
    ];
    assert_snapshot!(lab.refuses_each(&described(Value::Null), cases), @"
    refused: VM web: cpu: x86-64-v3 is a model of x86_64, and the VM's architecture is aarch64 (option arch); use for example max or cortex-a72
    invalid_parameter: cpu: node pve does not have the aarch64 CPU model 'host'; pvesh get /nodes/pve/capabilities/qemu/cpu lists them
    invalid_parameter: cpu: node pve does not have the aarch64 CPU model 'cortexa72'; did you mean cortex-a72?
    ");
    lab.changed(described(json!("cortex-a72")));
    lab.unchanged(described(json!("cortex-a72")));
    lab.changed(with(
        described(Value::Null),
        json!({"config": {"cpu": null}}),
    ));
}

#[test]
fn the_models_are_read_only_if_they_matter() {
    let lab = lab();
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
        let lab = lab();
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
