//! What this controller kept of a VM: its copies of the records of all of its installations.

use pve_module::record::{Binding, Identity, Phase, Record};

use crate::reinstall;
use crate::store::{Installation, Store};
use crate::vm_layout::volume;

/// The record that this controller kept last of a VM whose notes lost theirs.
pub fn latest(store: &Store, vmid: u32, identity: &Identity) -> Option<Record> {
    let ours = own_copies(store, vmid, identity)
        .filter(|(_, record)| record.binding(vmid, identity) == Binding::Ours);
    // Of a machine that is being installed anew, the controller may know both installations.
    let latest = ours
        .max_by_key(|(installation, record)| (record.phase.unfinished(), installation.kept_at()));
    latest.map(|(_, record)| reinstall::counted(record))
}

/// What this controller knows of reinstallations of a VM.
pub struct Reinstallations {
    /// The volumes that they detached.
    pub volumes: Vec<String>,
    /// The words that confirmed those which the VM's record is not of.
    pub words: Vec<String>,
    /// Whether one of these is not finished, as far as this controller knows.
    pub installing: bool,
}

/// Read it; `present` is the record that the VM has.
pub fn reinstallations(
    store: &Store,
    vmid: u32,
    identity: &Identity,
    present: Option<&Record>,
) -> Reinstallations {
    let mut all = Reinstallations {
        volumes: Vec::new(),
        words: Vec::new(),
        installing: false,
    };
    for (_, record) in own_copies(store, vmid, identity) {
        let is_present = present.is_some_and(|present| present.installation == record.installation);
        // A copy in the phase 'reinstalling' may be of a run that was cut off before it wrote to the notes.
        let has_begun = record.phase != Phase::Reinstalling;
        let Some(reinstall) = record.reinstall else {
            continue;
        };
        let detached = reinstall.detached.iter();
        all.volumes
            .extend(detached.map(|(_, value)| volume(value).to_owned()));
        if has_begun && !is_present {
            all.words.push(reinstall.confirmed);
            all.installing |= record.phase == Phase::Installing;
        }
    }
    all
}

/// The installations of a VM other than `now`, with what this controller kept of them.
pub fn others<'a>(
    store: &Store,
    cluster: &'a str,
    now: &'a Record,
) -> impl Iterator<Item = (Installation, Record)> + 'a {
    let all = store.all().into_iter();
    let others = all.filter(move |(_, known)| {
        known.cluster == cluster
            && known.record.vmid == now.vmid
            && known.record.uuid == now.uuid
            && known.record.installation != now.installation
    });
    others.map(|(installation, known)| (installation, known.record))
}

/// The records that this controller kept of a VM, of all of its installations.
fn own_copies(
    store: &Store,
    vmid: u32,
    identity: &Identity,
) -> impl Iterator<Item = (Installation, Record)> {
    let all = store.all().into_iter();
    all.map(|(installation, known)| (installation, known.record))
        .filter(move |(_, record)| record.binding(vmid, identity) != Binding::Copied)
}
