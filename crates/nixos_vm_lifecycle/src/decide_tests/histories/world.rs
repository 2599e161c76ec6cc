//! The machine, what the controllers keep of it, and what happens to it.

use pve_module::record::{Phase, Record};

use crate::decide_tests::{facts, vm};
use crate::facts::{Answer, Beside, Facts, First, Layout, Recorded, Seed, Vm};
use crate::reinstall;

/// What is on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    Blank,
    Half,
    /// A system that this installation put there.
    Ours,
    /// What somebody else put there.
    Theirs,
}

/// A disk; `ours` if this installation made it, `booted` if a system on it ever ran.
#[derive(Clone, Copy, Debug)]
pub struct Disk {
    pub id: u8,
    pub ours: bool,
    pub content: Content,
    pub booted: bool,
    /// The user confirmed that what is on it now is lost.
    pub given_up: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    Nothing,
    /// The installer, with the key that this controller put into the seed.
    Installer(u8),
    System,
    Theirs,
}

/// A VM with what a person can change of it.
#[derive(Clone, Debug)]
pub struct Machine {
    pub vmid: u32,
    pub uuid: u8,
    pub generation: u32,
    pub notes: Option<Record>,
    pub runs: Runs,
    pub disk: Disk,
    /// Whether its other disk, with data on it, is attached.
    pub data: bool,
    pub installer: Option<&'static str>,
    pub seed: Option<u8>,
    pub first: First,
    /// What was written to the disk since the start.
    pub written: Option<u64>,
}

/// What a controller keeps.
#[derive(Clone, Debug, Default)]
pub struct Controller {
    /// The copies of records, one for each installation, the latest last.
    pub records: Vec<Record>,
    pub ended: bool,
}

impl Controller {
    /// Keep a copy of the record.
    pub fn keep(&mut self, record: &Record) {
        self.records
            .retain(|kept| kept.installation != record.installation);
        self.records.push(record.clone());
    }

    /// The copy for an installation.
    fn known(&self, installation: &str) -> Option<&Record> {
        let mut records = self.records.iter();
        records.find(|record| record.installation == installation)
    }
}

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// A run by a controller that ends after so many writes.
    Play(usize, u8),
    /// The same, with the confirmation that the machine is to be installed anew.
    Reinstall(usize, u8),
    AttachData,
    DetachDrives,
    AttachOtherIso,
    DiskFirst,
    Start,
    Stop,
    PowerLoss,
    OtherDisk,
    InstallByHand,
    EraseNotes,
    /// Somebody copies the notes, and writes them back later.
    CopyNotes,
    PasteNotes,
    Snapshot,
    Rollback,
    Clone,
    Quorum,
}

pub struct History {
    pub machine: Option<Machine>,
    pub controllers: [Controller; 2],
    pub snapshot: Option<Machine>,
    pub copied_notes: Option<Record>,
    /// Whether a reinstallation was finished: the user's word, which stays where it was given, has counted.
    pub word_counted: bool,
    pub next: u32,
    /// Disks that were formatted although they must not be.
    pub lost: Vec<Disk>,
    /// Whether the other disk was attached when the disks were formatted.
    pub data_lost: bool,
}

impl History {
    pub fn new() -> Self {
        Self {
            machine: None,
            controllers: [Controller::default(), Controller::default()],
            snapshot: None,
            copied_notes: None,
            word_counted: false,
            next: 1,
            lost: Vec::new(),
            data_lost: false,
        }
    }

    pub fn fresh(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    pub fn facts(&self, who: usize) -> Facts {
        let mine = &self.controllers[who];
        let mut facts = facts(Phase::Done);
        facts.answer = Answer::NotAsked;
        let Some(machine) = &self.machine else {
            facts.vm = None;
            return facts;
        };
        let matches = |record: &Record| {
            record.vmid == machine.vmid && record.uuid == machine.uuid.to_string()
        };
        let ours = || {
            let latest = mine
                .records
                .iter()
                .enumerate()
                .filter(|(_, record)| matches(record));
            let latest = latest.max_by_key(|(at, record)| (record.phase.unfinished(), *at));
            latest.map(|(_, record)| reinstall::counted(record.clone()))
        };
        let record = machine.notes.clone().or_else(ours);
        let installation = record.as_ref().map(|record| record.installation.clone());
        let known = installation.as_deref().and_then(|id| mine.known(id));
        facts.ended = mine.ended
            && record.as_ref().map(|record| &record.run) == known.map(|known| &known.run);
        let others = mine.records.iter().filter(|record| matches(record));
        let others = others.filter(|record| Some(&record.installation) != installation.as_ref());
        let generation = machine.generation.to_string();
        *vm(&mut facts) = Vm {
            object: "VM".into(),
            vmid: machine.vmid,
            lost: machine.notes.is_none(),
            unreadable: false,
            installing: mine.records.iter().any(|record| {
                matches(record)
                    && Some(&record.installation) != installation.as_ref()
                    && record.phase == Phase::Installing
                    && record.reinstall.is_some()
            }),
            kept: known.map(|known| known.phase),
            counted: others
                .filter(|record| record.phase != Phase::Reinstalling)
                .filter_map(|record| Some(record.reinstall.clone()?.confirmed))
                .collect(),
            written: machine.written,
            running: machine.runs != Runs::Nothing,
            template: false,
            record: match record {
                None => Recorded::None,
                Some(record) if !matches(&record) => Recorded::Copied(record),
                Some(record) if record.generation.as_ref() != Some(&generation) => {
                    Recorded::RolledBack(record)
                }
                Some(record) => Recorded::Ours(record),
            },
            layout: Layout {
                disk_key: "scsi0".into(),
                disk: Some(machine.disk.id.to_string()),
                installer: machine.installer.map(str::to_owned),
                seed: match machine.seed {
                    Some(_) => Seed::Ours,
                    None => Seed::None,
                },
                first: machine.first.clone(),
            },
            beside: Beside {
                disks: match machine.data {
                    true => vec![("scsi1".into(), format!("lvm:vm-{}-disk-1", machine.vmid))],
                    false => Vec::new(),
                },
                ..Beside::default()
            },
        };
        facts
    }

    /// What answers, recognised by the keys in the record and this controller's own.
    pub fn answer(&self, who: usize, facts: &Facts) -> Answer {
        let record = match &facts.vm.as_ref().unwrap().record {
            Recorded::Ours(record) | Recorded::RolledBack(record) => record,
            Recorded::None | Recorded::Copied(_) => return Answer::NotAsked,
        };
        match self.machine.as_ref().unwrap().runs {
            Runs::Nothing => Answer::Silent("off".into()),
            Runs::Installer(key)
                if usize::from(key) == who || record.installer_key == Some(key.to_string()) =>
            {
                Answer::Installer
            }
            Runs::System => Answer::Installed,
            Runs::Installer(_) | Runs::Theirs => Answer::Foreign("k".into()),
        }
    }

    pub fn start(&mut self) {
        let Some(machine) = &mut self.machine else {
            return;
        };
        if machine.runs != Runs::Nothing {
            return;
        }
        let disk = match machine.disk.content {
            Content::Ours => Some(Runs::System),
            Content::Theirs => Some(Runs::Theirs),
            Content::Blank | Content::Half => None,
        };
        let installer = match (machine.installer, machine.seed) {
            (Some("nixos"), Some(key)) => Some(Runs::Installer(key)),
            (Some(_), _) => Some(Runs::Theirs),
            (None, _) => None,
        };
        let (one, two) = match machine.first {
            First::Installer => (installer, disk),
            _ => (disk, installer),
        };
        machine.runs = one.or(two).unwrap_or(Runs::Nothing);
        machine.written = Some(u64::from(matches!(
            machine.runs,
            Runs::System | Runs::Theirs
        )));
        if machine.runs == disk.unwrap_or(Runs::Nothing) && machine.runs != Runs::Nothing {
            machine.disk.booted = true;
        }
    }

    pub fn happen(&mut self, event: Event) {
        if let Event::Play(who, writes) = event {
            return self.play(who % 2, writes, true, false);
        }
        if let Event::Reinstall(who, writes) = event {
            return self.play(who % 2, writes, true, true);
        }
        if matches!(event, Event::Quorum) {
            return self.play(0, 200, false, false);
        }
        if matches!(event, Event::Start) {
            return self.start();
        }
        let (uuid, generation, vmid) = (self.fresh() as u8, self.fresh(), 100 + self.fresh());
        let disk = self.fresh() as u8;
        let Some(machine) = &mut self.machine else {
            return;
        };
        match event {
            Event::DetachDrives => {
                machine.installer = None;
                machine.seed = None;
            }
            Event::AttachOtherIso => machine.installer = Some("debian"),
            Event::DiskFirst => machine.first = First::Disk,
            Event::Stop | Event::PowerLoss => machine.runs = Runs::Nothing,
            Event::OtherDisk => {
                machine.disk = Disk {
                    id: disk,
                    ours: false,
                    content: Content::Theirs,
                    booted: true,
                    given_up: false,
                };
            }
            Event::InstallByHand => {
                // In the installer too, as long as nothing is installed by it.
                let installing = |record: &Record| record.phase == Phase::Installing;
                let own = matches!(machine.runs, Runs::Installer(_))
                    && !machine.notes.as_ref().is_none_or(installing);
                let other = machine.runs == Runs::Theirs && machine.installer == Some("debian");
                if own || other {
                    machine.disk.content = Content::Theirs;
                    machine.written = Some(1);
                }
            }
            Event::EraseNotes => machine.notes = None,
            Event::CopyNotes => self.copied_notes = machine.notes.clone(),
            Event::PasteNotes => {
                machine.notes = self.copied_notes.clone().or(machine.notes.clone())
            }
            Event::Snapshot => self.snapshot = Some(machine.clone()),
            Event::Rollback => {
                if let Some(old) = self.snapshot.clone().filter(|old| old.uuid == machine.uuid) {
                    // Everything of then, but the notes of now, and a new vmgenid. A disk that was in production stays one for us.
                    let booted = machine.disk.booted;
                    *machine = Machine {
                        notes: machine.notes.clone(),
                        generation,
                        runs: Runs::Nothing,
                        ..old
                    };
                    machine.disk.booted |= booted;
                    machine.disk.given_up = false;
                }
            }
            Event::Clone => {
                machine.uuid = uuid;
                machine.generation = generation;
                machine.vmid = vmid;
                machine.runs = Runs::Nothing;
                machine.disk.id = disk;
                machine.disk.ours = false;
            }
            Event::AttachData => machine.data = true,
            Event::Play(..) | Event::Reinstall(..) | Event::Start | Event::Quorum => {}
        }
    }
}
