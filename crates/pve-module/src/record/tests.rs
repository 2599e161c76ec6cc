use proptest::prelude::*;

use super::*;

fn record() -> Record {
    Record {
        installation: "0123456789abcdef0123456789abcdef".into(),
        host: "web1".into(),
        vmid: 101,
        uuid: "6cff0931-1cb7-4535-800e-09aaaede1e6d".into(),
        generation: Some("1b1c8c0e-7a0f-4d3c-9b0a-000000000001".into()),
        phase: Phase::Installing,
        run: "1a2b3c4d".into(),
        disk: Some("local-lvm:vm-101-disk-0".into()),
        drives: Some("scsi0/ide2/ide0".into()),
        installer: Some("local:iso/nixos.iso".into()),
        image: None,
        template: None,
        installer_key: Some("ssh-ed25519 AAAA+/=".into()),
        host_key: None,
        reinstall: None,
    }
}

fn identity() -> Identity {
    Identity::of(
        Some("serial=x,uuid=6CFF0931-1cb7-4535-800e-09aaaede1e6d"),
        Some("1b1c8c0e-7a0f-4d3c-9b0a-000000000001"),
    )
}

#[test]
fn records_that_do_not_count_are_known() {
    let line = format!("{START}v=1 cut off");
    for (notes, expected) in [
        (String::new(), false),
        ("by hand".into(), false),
        (line.clone(), true),
        (format!("{line}\n{line}"), true),
    ] {
        assert_eq!(Record::is_unreadable(&notes), expected, "{notes}");
    }
}

#[test]
fn a_record_is_one_line_of_the_notes() {
    let text = record().to_string();
    assert_eq!(
        text,
        "<!-- nixos-proxmox: v=1 installation=0123456789abcdef0123456789abcdef host=web1 vmid=101 \
         uuid=6cff0931-1cb7-4535-800e-09aaaede1e6d generation=1b1c8c0e-7a0f-4d3c-9b0a-000000000001 phase=installing \
         run=1a2b3c4d disk=local-lvm:vm-101-disk-0 drives=scsi0/ide2/ide0 installer=local:iso/nixos.iso installer_key=ssh-ed25519%20AAAA%2B/%3D -->"
    );
    let notes = with_record("ERP.\nCall Anna first.\n", Some(&text));
    assert_eq!(notes, format!("ERP.\nCall Anna first.\n\n{text}"));
    assert_eq!(Record::find(&notes), Some(record()));
    assert_eq!(without_record(&notes), "ERP.\nCall Anna first.");
    assert_eq!(record_lines(&notes), Some(text));
}

#[test]
fn a_record_counts_on_its_own_vm_only() {
    let clone = Identity {
        uuid: Some("00000000-0000-4000-8000-000000000000".into()),
        ..identity()
    };
    let rolled_back = Identity {
        generation: Some("00000000-0000-4000-8000-000000000000".into()),
        ..identity()
    };
    for (vmid, identity, expected) in [
        (101, identity(), Binding::Ours),
        (102, identity(), Binding::Copied),
        (101, clone, Binding::Copied),
        (101, Identity::default(), Binding::Copied),
        (101, rolled_back.clone(), Binding::RolledBack),
    ] {
        assert_eq!(record().binding(vmid, &identity), expected, "{identity:?}");
    }
    // A linked clone has another UUID until the write after its creation.
    let cloned = |phase| Record {
        phase,
        template: Some(9000),
        ..record()
    };
    let other = Identity {
        uuid: Some("00000000-0000-4000-8000-000000000000".into()),
        ..identity()
    };
    for (phase, vmid, expected) in [
        (Phase::Creating, 101, Binding::Ours),
        (Phase::Creating, 102, Binding::Copied),
        (Phase::Provisioning, 101, Binding::Copied),
        (Phase::Done, 101, Binding::Copied),
    ] {
        assert_eq!(cloned(phase).binding(vmid, &other), expected, "{phase}");
    }
    let made = |phase| Record {
        phase,
        generation: None,
        ..record()
    };
    assert_eq!(
        made(Phase::Creating).binding(101, &rolled_back),
        Binding::Ours
    );
    assert_eq!(
        made(Phase::Done).binding(101, &rolled_back),
        Binding::RolledBack
    );
}

#[test]
fn what_is_not_one_whole_record_is_none() {
    let text = record().to_string();
    for broken in [
        String::new(),
        "<!-- a comment -->".into(),
        text.replace("phase=installing", "phase=ready"),
        text.replace("v=1", "v=2"),
        text.replace("run=1a2b3c4d", ""),
        text.replace("run=1a2b3c4d", "run=../../x"),
        text.replace(
            "installation=0123456789abcdef0123456789abcdef",
            "installation=/home/operator",
        ),
        text.replace("host=web1", "host=web1%0A"),
        text.replace("vmid=101", "vmid=101 vmid=102"),
        text.replace(" -->", ""),
        format!("{text}\n{text}"),
    ] {
        assert_eq!(Record::find(&broken), None, "{broken}");
    }
}

proptest! {
    #[test]
    fn every_record_survives_the_notes(host in "\\PC{1,40}", notes in "\\PC{0,80}", run in "[0-9a-f]{8}") {
        let record = Record {
            host,
            run,
            image: Some("local:import/nixos.qcow2".into()),
            template: Some(9000),
            ..record()
        };
        let text = record.to_string();
        prop_assert!(!text.contains('\n') && text.matches("-->").count() == 1);
        prop_assume!(!notes.contains("<!-- nixos-proxmox:"));
        let with = with_record(&notes, Some(&text));
        prop_assert_eq!(Record::find(&with), Some(record));
        prop_assert_eq!(with_record(&with, None), without_record(&notes));
    }
}
