//! The decision: `found` is a table of what is found and what follows, `reinstallation` is about machines that are installed anew, and
//! `histories` has crashes, people and controllers come together at random.

mod by_image;
mod found;
mod histories;
mod reinstallation;

use ansible_module::Failure;
use pve_module::record::{Phase, Record};

use crate::facts::{Answer, Beside, Decision, Facts, First, Layout, Recorded, Seed, Vm};

/// The decision, with a refusal as the user sees it.
fn decide(facts: &Facts) -> Result<Decision, Failure> {
    Ok(crate::decide::decide(facts)?)
}

fn record(phase: Phase) -> Record {
    Record {
        installation: "0123456789abcdef0123456789abcdef".into(),
        host: "web1".into(),
        vmid: 101,
        uuid: "u1".into(),
        generation: Some("g1".into()),
        phase,
        run: "1a2b3c4d".into(),
        disk: Some("lvm:vm-101-disk-0".into()),
        drives: Some("scsi0/ide2/ide0".into()),
        installer: Some("local:iso/nixos.iso".into()),
        installer_key: Some("ssh-ed25519 I".into()),
        host_key: Some("ssh-ed25519 H".into()),
        image: None,
        template: None,
        reinstall: None,
    }
}

fn layout(phase: Phase) -> Layout {
    Layout {
        disk_key: "scsi0".into(),
        disk: Some("lvm:vm-101-disk-0".into()),
        installer: Some("local:iso/nixos.iso".into()),
        seed: Seed::Ours,
        first: match phase {
            Phase::Installing | Phase::Reinstalling => First::Installer,
            _ => First::Disk,
        },
    }
}

fn facts(phase: Phase) -> Facts {
    Facts {
        host: "web1".into(),
        name: "VM web1".into(),
        adopt: false,
        by_image: false,
        confirmed: Vec::new(),
        vm: Some(Vm {
            object: "VM 101 (web1)".into(),
            vmid: 101,
            lost: false,
            unreadable: false,
            installing: false,
            kept: Some(phase),
            counted: Vec::new(),
            written: Some(0),
            running: true,
            template: false,
            record: Recorded::Ours(record(phase)),
            layout: layout(phase),
            beside: Beside::default(),
        }),
        elsewhere: None,
        ended: false,
        busy: false,
        answer: Answer::NotAsked,
    }
}

fn vm(facts: &mut Facts) -> &mut Vm {
    facts.vm.as_mut().unwrap()
}

/// A decision, in a word.
fn said(facts: &Facts) -> String {
    match decide(facts) {
        Ok(Decision::Ask) => "ask".into(),
        Ok(Decision::Create) => "create".into(),
        Ok(Decision::Install(_)) => "install".into(),
        Ok(Decision::Reinstall(_)) => "reinstall".into(),
        Ok(Decision::Finalize(_)) => "finalize".into(),
        Ok(Decision::Converge(_)) => "converge".into(),
        Ok(Decision::Adopt) => "adopt".into(),
        Err(failure) => failure.kind.to_string(),
    }
}

/// A change to the facts.
type Change = fn(&mut Facts);

/// A phase, what is found in it, how the facts say so, and what follows.
type Row = (Phase, &'static str, Change, &'static str);

/// Assert that what follows is what the table says; `facts` are those of a machine in a phase that is as it was left.
fn follow(table: &[Row], facts: fn(Phase) -> Facts) {
    for (phase, what, change, expected) in table {
        let mut found = facts(*phase);
        change(&mut found);
        assert_eq!(said(&found), *expected, "{phase}: {what}");
    }
}
