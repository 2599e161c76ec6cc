//! The decision: a table of what is found and what follows, and histories of crashes, people and controllers.

use ansible_module::{Failure, FailureKind};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use pve_module::record::{Phase, Record, Reinstall};

use crate::facts::{Answer, Beside, Decision, Elsewhere, Facts, First, Layout, Recorded, Seed, Vm};
use crate::options::Step;

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
        confirmed: Vec::new(),
        vm: Some(Vm {
            object: "VM 101 (web1)".into(),
            vmid: 101,
            lost: false,
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

#[test]
fn what_follows_from_what_is_found() {
    use Phase::{Adopted, Creating, Done, Installed, Installing, Provisioning};
    let table: &[(Phase, &str, Change, &str)] = &[
        (Done, "no VM", |f| f.vm = None, "create"),
        (
            Done,
            "a machine under another name",
            |f| {
                f.vm = None;
                f.elsewhere = Some(Elsewhere::Named {
                    vmid: 101,
                    name: "old".into(),
                });
            },
            "not_ours",
        ),
        (
            Done,
            "a machine that the token may not see",
            |f| {
                f.vm = None;
                f.elsewhere = Some(Elsewhere::Hidden {
                    vmid: 101,
                    kept: "/state/web1/0123".into(),
                });
            },
            "hidden",
        ),
        (Done, "a template", |f| vm(f).template = true, "refused"),
        (
            Done,
            "no record",
            |f| vm(f).record = Recorded::None,
            "not_ours",
        ),
        (
            Done,
            "no record, adopted",
            |f| {
                vm(f).record = Recorded::None;
                f.adopt = true
            },
            "adopt",
        ),
        (
            Installing,
            "a clone",
            |f| vm(f).record = Recorded::Copied(record(Installing)),
            "not_ours",
        ),
        (
            Installing,
            "a clone, adopted",
            |f| {
                vm(f).record = Recorded::Copied(record(Installing));
                f.adopt = true
            },
            "adopt",
        ),
        (
            Done,
            "a clone of a finished machine",
            |f| vm(f).record = Recorded::Copied(record(Done)),
            "not_ours",
        ),
        (
            Done,
            "another host's",
            |f| f.host = "web2".into(),
            "not_ours",
        ),
        (
            Done,
            "another host's, adopted",
            |f| {
                f.host = "web2".into();
                f.adopt = true
            },
            "adopt",
        ),
        (
            Installing,
            "another host's under way, adopted",
            |f| {
                f.host = "web2".into();
                f.adopt = true
            },
            "not_ours",
        ),
        (
            Provisioning,
            "rolled back",
            |f| vm(f).record = Recorded::RolledBack(record(Provisioning)),
            "not_as_left",
        ),
        (
            Installing,
            "rolled back",
            |f| vm(f).record = Recorded::RolledBack(record(Installing)),
            "not_as_left",
        ),
        (
            Installed,
            "rolled back",
            |f| vm(f).record = Recorded::RolledBack(record(Installed)),
            "not_as_left",
        ),
        (
            Done,
            "rolled back",
            |f| vm(f).record = Recorded::RolledBack(record(Done)),
            "converge",
        ),
        (Done, "as it is", |_| {}, "converge"),
        (Adopted, "as it is", |_| {}, "converge"),
        (Creating, "stopped", |f| vm(f).running = false, "install"),
        (Provisioning, "running", |_| {}, "ask"),
        (
            Provisioning,
            "the installer answers",
            |f| f.answer = Answer::Installer,
            "install",
        ),
        (
            Provisioning,
            "silent",
            |f| f.answer = Answer::Silent("boots".into()),
            "install",
        ),
        (
            Provisioning,
            "silent, and its disk was written to",
            |f| {
                f.answer = Answer::Silent("boots".into());
                vm(f).written = Some(4096)
            },
            "not_as_left",
        ),
        (
            Provisioning,
            "stopped, and its disk was written to before",
            |f| {
                vm(f).running = false;
                vm(f).written = Some(4096)
            },
            "install",
        ),
        (
            Provisioning,
            "silent, and what was written is not known",
            |f| {
                f.answer = Answer::Silent("boots".into());
                vm(f).written = None
            },
            "install",
        ),
        (
            Provisioning,
            "its record lost from the notes",
            |f| {
                vm(f).running = false;
                vm(f).lost = true
            },
            "install",
        ),
        (
            Provisioning,
            "its record lost from the notes, and its seed detached",
            |f| {
                vm(f).running = false;
                vm(f).lost = true;
                vm(f).layout.seed = Seed::None
            },
            "not_as_left",
        ),
        (
            Provisioning,
            "a foreign key answers",
            |f| f.answer = Answer::Foreign("k".into()),
            "not_as_left",
        ),
        (
            Provisioning,
            "an installed system answers",
            |f| f.answer = Answer::Installed,
            "not_as_left",
        ),
        (
            Provisioning,
            "another disk",
            |f| vm(f).layout.disk = Some("lvm:vm-7-disk-0".into()),
            "not_as_left",
        ),
        (
            Provisioning,
            "no disk",
            |f| vm(f).layout.disk = None,
            "not_as_left",
        ),
        (
            Provisioning,
            "another ISO",
            |f| vm(f).layout.installer = Some("local:iso/debian.iso".into()),
            "not_as_left",
        ),
        (
            Provisioning,
            "another thing in the seed's drive",
            |f| vm(f).layout.seed = Seed::Other("x".into()),
            "not_as_left",
        ),
        (
            Provisioning,
            "boots from the network",
            |f| vm(f).layout.first = First::Other("order=net0".into()),
            "not_as_left",
        ),
        (
            Provisioning,
            "no drives yet",
            |f| {
                vm(f).running = false;
                vm(f).layout.installer = None;
                vm(f).layout.seed = Seed::None
            },
            "install",
        ),
        (Installing, "running", |_| {}, "ask"),
        (Installing, "stopped", |f| vm(f).running = false, "install"),
        (
            Installing,
            "another run is at work",
            |f| {
                f.busy = true;
                f.answer = Answer::Installer
            },
            "busy",
        ),
        (
            Installing,
            "the installer answers",
            |f| f.answer = Answer::Installer,
            "install",
        ),
        (
            Installing,
            "silent",
            |f| f.answer = Answer::Silent("timeout".into()),
            "not_as_left",
        ),
        (
            Installing,
            "a foreign key answers",
            |f| f.answer = Answer::Foreign("k".into()),
            "not_as_left",
        ),
        (
            Installing,
            "the installed system answers",
            |f| f.answer = Answer::Installed,
            "finalize",
        ),
        (
            Installing,
            "ended and stopped",
            |f| {
                vm(f).running = false;
                f.ended = true
            },
            "finalize",
        ),
        (
            Installing,
            "ended and the installer answers",
            |f| {
                f.answer = Answer::Installer;
                f.ended = true
            },
            "finalize",
        ),
        (
            Installing,
            "ended and another disk",
            |f| {
                f.ended = true;
                vm(f).layout.disk = Some("x".into())
            },
            "not_as_left",
        ),
        (
            Installing,
            "stopped, installer detached",
            |f| {
                vm(f).running = false;
                vm(f).layout.installer = None
            },
            "not_as_left",
        ),
        (
            Installing,
            "stopped, seed detached",
            |f| {
                vm(f).running = false;
                vm(f).layout.seed = Seed::None
            },
            "not_as_left",
        ),
        (
            Installing,
            "stopped, disk first",
            |f| {
                vm(f).running = false;
                vm(f).layout.first = First::Disk
            },
            "not_as_left",
        ),
        (
            Installing,
            "stopped, another disk",
            |f| {
                vm(f).running = false;
                vm(f).layout.disk = Some("x".into())
            },
            "not_as_left",
        ),
        (Installed, "running", |_| {}, "ask"),
        (Installed, "stopped", |f| vm(f).running = false, "finalize"),
        (
            Installed,
            "the installed system answers",
            |f| f.answer = Answer::Installed,
            "finalize",
        ),
        (
            Installed,
            "a foreign key answers",
            |f| f.answer = Answer::Foreign("k".into()),
            "not_as_left",
        ),
        (
            Installed,
            "another disk",
            |f| vm(f).layout.disk = None,
            "not_as_left",
        ),
    ];
    for (phase, what, change, expected) in table {
        let mut found = facts(*phase);
        change(&mut found);
        assert_eq!(said(&found), *expected, "{phase}: {what}");
    }
}

#[test]
fn a_refusal_says_what_was_found_and_how_to_go_on() {
    let mut found = facts(Phase::Installing);
    found.answer = Answer::Foreign("192.0.2.11: ssh-ed25519 SHA256:abc".into());
    let refused = decide(&found).unwrap_err();
    assert_eq!(
        refused.msg,
        "VM 101 (web1): its address belongs to a system with a host key that is not this installation's (192.0.2.11: ssh-ed25519 \
         SHA256:abc); nothing was done to it"
    );
    let hint = refused.hint.unwrap();
    assert!(
        hint.contains("finish by hand") && hint.contains("nixos_vm_confirm_destroy=web1"),
        "{hint}"
    );
}

#[test]
fn due_steps() {
    assert_eq!(Decision::Create.due(), Step::SIX);
    assert_eq!(
        Decision::Finalize(record(Phase::Installed)).due(),
        [Step::Finalize]
    );
    assert_eq!(Decision::Converge(record(Phase::Done)).due(), []);
}

// --- histories -------------------------------------------------------------------------------------

/// What is on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Blank,
    Half,
    /// A system that this installation put there.
    Ours,
    /// What somebody else put there.
    Theirs,
}

/// A disk; `ours` if this installation made it, `booted` if a system on it ever ran.
#[derive(Clone, Copy, Debug)]
struct Disk {
    id: u8,
    ours: bool,
    content: Content,
    booted: bool,
    /// The user confirmed that what is on it now is lost.
    given_up: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runs {
    Nothing,
    /// The installer, with the key that this controller put into the seed.
    Installer(u8),
    System,
    Theirs,
}

/// A VM with what a person can change of it.
#[derive(Clone, Debug)]
struct Machine {
    vmid: u32,
    uuid: u8,
    generation: u32,
    notes: Option<Record>,
    runs: Runs,
    disk: Disk,
    /// Whether its other disk, with data on it, is attached.
    data: bool,
    installer: Option<&'static str>,
    seed: Option<u8>,
    first: First,
    /// What was written to the disk since the start.
    written: Option<u64>,
}

/// What a controller keeps.
#[derive(Clone, Debug, Default)]
struct Controller {
    record: Option<Record>,
    ended: bool,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
enum Event {
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
    Snapshot,
    Rollback,
    Clone,
    Quorum,
}

struct History {
    machine: Option<Machine>,
    controllers: [Controller; 2],
    snapshot: Option<Machine>,
    next: u32,
    /// Disks that were formatted although they must not be.
    lost: Vec<Disk>,
    /// Whether the other disk was attached when the disks were formatted.
    data_lost: bool,
}

impl History {
    fn new() -> Self {
        Self {
            machine: None,
            controllers: [Controller::default(), Controller::default()],
            snapshot: None,
            next: 1,
            lost: Vec::new(),
            data_lost: false,
        }
    }

    fn fresh(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    fn facts(&self, who: usize) -> Facts {
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
        let record = machine
            .notes
            .clone()
            .or_else(|| mine.record.clone().filter(|record| matches(record)));
        facts.ended = mine.ended
            && record.as_ref().map(|record| &record.run)
                == mine.record.as_ref().map(|record| &record.run);
        let generation = machine.generation.to_string();
        *vm(&mut facts) = Vm {
            object: "VM".into(),
            vmid: machine.vmid,
            lost: machine.notes.is_none(),
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

    /// What answers, told by the keys in the record and this controller's own.
    fn answer(&self, who: usize, facts: &Facts) -> Answer {
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

    fn start(&mut self) {
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

    /// A run of the play: it decides, and does what is due until it is cut off.
    fn play(&mut self, who: usize, writes: u8, quorum: bool, confirmed: bool) {
        let mut left = writes;
        let mut step = move || {
            left = left.saturating_sub(1);
            left > 0
        };
        for _ in 0..5 {
            let mut facts = self.facts(who);
            facts.confirmed = if confirmed {
                vec!["web1".into()]
            } else {
                Vec::new()
            };
            let mut decision = decide(&facts);
            if decision.as_ref().ok() == Some(&Decision::Ask) {
                facts.answer = self.answer(who, &facts);
                decision = decide(&facts);
            }
            match decision {
                Ok(Decision::Create) => self.create(who),
                Ok(Decision::Install(found)) => {
                    if !self.install(
                        who,
                        found,
                        facts.answer == Answer::Installer,
                        quorum,
                        &mut step,
                    ) {
                        return;
                    }
                }
                Ok(Decision::Reinstall(found)) => {
                    if !quorum || !self.reinstall(who, found, &mut step) {
                        return;
                    }
                }
                Ok(Decision::Finalize(found)) => {
                    self.finalize(found, quorum, &mut step);
                    return;
                }
                // Converging starts it.
                Ok(Decision::Converge(_)) => return self.start(),
                Ok(Decision::Ask | Decision::Adopt) | Err(_) => return,
            }
            if !step() {
                return;
            }
        }
    }

    fn create(&mut self, who: usize) {
        let uuid = self.fresh() as u8;
        let generation = self.fresh();
        let disk = self.fresh() as u8;
        let vmid = 100 + self.fresh();
        let record = Record {
            vmid,
            uuid: uuid.to_string(),
            generation: Some(generation.to_string()),
            disk: Some(disk.to_string()),
            installer: Some("nixos".into()),
            installer_key: Some(who.to_string()),
            ..record(Phase::Provisioning)
        };
        self.controllers[who] = Controller {
            record: Some(record.clone()),
            ended: false,
        };
        self.machine = Some(Machine {
            vmid,
            uuid,
            generation,
            notes: Some(record),
            runs: Runs::Nothing,
            disk: Disk {
                id: disk,
                ours: true,
                content: Content::Blank,
                booted: false,
                given_up: false,
            },
            data: false,
            installer: Some("nixos"),
            seed: None,
            first: First::Disk,
            written: None,
        });
    }

    /// Whether the run goes on.
    fn reinstall(&mut self, who: usize, found: Record, step: &mut impl FnMut() -> bool) -> bool {
        let (run, installation) = (
            format!("{:08x}", self.fresh()),
            format!("{:032x}", self.fresh()),
        );
        let machine = self.machine.as_mut().unwrap();
        let mut record = Record {
            run,
            ..found.clone()
        };
        if found.phase == Phase::Done {
            let disk = (
                String::from("scsi1"),
                format!("lvm:vm-{}-disk-1", machine.vmid),
            );
            record.installation = installation;
            record.phase = Phase::Reinstalling;
            record.reinstall = Some(Reinstall {
                confirmed: "web1".into(),
                detached: if machine.data { vec![disk] } else { Vec::new() },
            });
            machine.disk.given_up = true;
        }
        machine.notes = Some(record.clone());
        if !step() {
            return false;
        }
        self.controllers[who] = Controller {
            record: Some(record.clone()),
            ended: false,
        };
        machine.runs = Runs::Nothing;
        if !step() {
            return false;
        }
        if record
            .reinstall
            .as_ref()
            .is_some_and(|reinstall| !reinstall.detached.is_empty())
        {
            machine.data = false;
        }
        if !step() || machine.data {
            return false;
        }
        record.installer = Some("nixos".into());
        record.installer_key = Some(who.to_string());
        machine.notes = Some(record.clone());
        machine.installer = Some("nixos");
        machine.seed = Some(who as u8);
        machine.first = First::Installer;
        if !step() || machine.data {
            return false;
        }
        record.phase = Phase::Installing;
        machine.notes = Some(record.clone());
        self.controllers[who].record = Some(record);
        true
    }

    /// Whether the run goes on.
    fn install(
        &mut self,
        who: usize,
        found: Record,
        answered: bool,
        quorum: bool,
        step: &mut impl FnMut() -> bool,
    ) -> bool {
        if !quorum {
            return false;
        }
        let machine = self.machine.as_mut().unwrap();
        if machine.runs != Runs::Nothing
            && (found.phase == Phase::Installing || !answered || machine.seed != Some(who as u8))
        {
            machine.runs = Runs::Nothing;
        }
        self.controllers[who].ended = false;
        let run = format!("{:08x}", self.next);
        self.next += 1;
        let mut record = Record {
            run,
            installer_key: Some(who.to_string()),
            installer: Some("nixos".into()),
            ..found
        };
        machine.notes = Some(record.clone());
        if !step() {
            return false;
        }
        self.controllers[who].record = Some(record.clone());
        machine.installer = Some("nixos");
        machine.seed = Some(who as u8);
        machine.first = if record.phase == Phase::Installing {
            First::Installer
        } else {
            First::Disk
        };
        if !step() {
            return false;
        }
        self.start();
        let machine = self.machine.as_mut().unwrap();
        if machine.runs != Runs::Installer(who as u8) || !step() {
            return false;
        }
        // One write: the record and the boot order that belongs to it.
        record.phase = Phase::Installing;
        machine.notes = Some(record.clone());
        machine.first = First::Installer;
        if !step() {
            return false;
        }
        self.controllers[who].record = Some(record.clone());
        if !step() {
            return false;
        }
        // disko formats the disk.
        if !machine.disk.ours
            || (machine.disk.booted && !machine.disk.given_up)
            || matches!(machine.disk.content, Content::Theirs)
        {
            self.lost.push(machine.disk);
        }
        // A careless disko formats all that it finds. The disks of a first installation are new.
        self.data_lost |= machine.data && record.reinstall.is_some();
        if machine.disk.given_up {
            machine.disk.booted = false;
            machine.disk.given_up = false;
        }
        machine.disk.content = Content::Half;
        machine.written = Some(1);
        if !step() {
            return false;
        }
        // The end of nixos-anywhere, and the note of it on the controller, which nothing but a kill in between can part.
        machine.disk.content = Content::Ours;
        self.controllers[who].ended = true;
        if !step() {
            return false;
        }
        record.phase = Phase::Installed;
        machine.notes = Some(record.clone());
        self.controllers[who].record = Some(record);
        true
    }

    fn finalize(&mut self, mut record: Record, quorum: bool, step: &mut impl FnMut() -> bool) {
        if !quorum {
            return;
        }
        let machine = self.machine.as_mut().unwrap();
        record.phase = Phase::Installed;
        machine.notes = Some(record.clone());
        if !step() {
            return;
        }
        machine.runs = Runs::Nothing;
        machine.installer = None;
        machine.seed = None;
        if !step() {
            return;
        }
        if let Some(reinstall) = record.reinstall.as_mut() {
            machine.data |= !reinstall.detached.is_empty();
            reinstall.detached.clear();
        }
        if !step() {
            return;
        }
        machine.first = First::Disk;
        if !step() {
            return;
        }
        self.start();
        let machine = self.machine.as_mut().unwrap();
        if machine.runs == Runs::System && step() {
            record.phase = Phase::Done;
            machine.notes = Some(record);
        }
    }

    fn happen(&mut self, event: Event) {
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

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0..2_usize, 1..14_u8).prop_map(|(who, writes)| Event::Play(who, writes)),
        3 => (0..2_usize, 1..18_u8).prop_map(|(who, writes)| Event::Reinstall(who, writes)),
        2 => Just(Event::AttachData),
        3 => Just(Event::Start),
        2 => Just(Event::Stop),
        1 => Just(Event::PowerLoss),
        2 => Just(Event::DetachDrives),
        1 => Just(Event::AttachOtherIso),
        2 => Just(Event::DiskFirst),
        1 => Just(Event::OtherDisk),
        1 => Just(Event::InstallByHand),
        2 => Just(Event::EraseNotes),
        2 => Just(Event::Snapshot),
        2 => Just(Event::Rollback),
        1 => Just(Event::Clone),
        1 => Just(Event::Quorum),
    ]
}

/// Many more cases than other tests try. The macro `proptest!` would have the environment's number win.
fn many() -> TestRunner {
    let usual = ProptestConfig::default();
    TestRunner::new(ProptestConfig {
        cases: usual.cases * 100,
        ..usual
    })
}

#[test]
fn no_history_loses_a_disk() {
    let histories = prop::collection::vec(event(), 1..24);
    let tried = many().run(&histories, |events| {
        let mut history = History::new();
        for event in &events {
            history.happen(*event);
            prop_assert!(history.lost.is_empty(), "{:?} was formatted", history.lost);
            prop_assert!(!history.data_lost);
        }
        Ok(())
    });
    tried.unwrap();
}

/// Whatever cut off the runs before, one that is not cut off finishes, if nobody else touched the machine.
#[test]
fn crashes_alone_never_need_a_person() {
    let cuts = prop::collection::vec((0..2_usize, 1..14_u8, any::<bool>()), 0..8);
    let tried = many().run(&(cuts, 0..2_usize), |(cuts, last)| {
        let mut history = History::new();
        for (who, writes, power) in cuts {
            history.play(who, writes, true, false);
            if power {
                history.happen(Event::PowerLoss);
            }
        }
        history.play(last, 200, true, false);
        history.play(last, 200, true, false);
        let machine = history.machine.as_ref().unwrap();
        prop_assert_eq!(machine.notes.as_ref().unwrap().phase, Phase::Done);
        prop_assert_eq!(machine.runs, Runs::System);
        prop_assert!(history.lost.is_empty());
        Ok(())
    });
    tried.unwrap();
}

/// The same for a machine that is installed anew: its other disk is attached in the end, and was never formatted.
#[test]
fn crashes_of_a_reinstallation_lose_no_data() {
    let cuts = prop::collection::vec((1..20_u8, any::<bool>(), any::<bool>()), 0..8);
    let tried = many().run(&cuts, |cuts| {
        let mut history = History::new();
        history.play(0, 200, true, false);
        history.happen(Event::AttachData);
        let first = history
            .machine
            .as_ref()
            .unwrap()
            .notes
            .as_ref()
            .unwrap()
            .installation
            .clone();
        for (writes, power, confirmed) in cuts {
            history.play(0, writes, true, confirmed);
            if power {
                history.happen(Event::PowerLoss);
            }
        }
        // Confirmed in both runs: the second does not install it once more.
        for _ in 0..2 {
            history.play(0, 200, true, true);
        }
        let machine = history.machine.as_ref().unwrap();
        let record = machine.notes.as_ref().unwrap();
        prop_assert_eq!(record.phase, Phase::Done);
        prop_assert_ne!(&record.installation, &first);
        prop_assert_eq!(machine.runs, Runs::System);
        prop_assert!(machine.data && !history.data_lost && history.lost.is_empty());
        let installation = record.installation.clone();
        history.play(1, 200, true, true);
        prop_assert_eq!(
            &history
                .machine
                .as_ref()
                .unwrap()
                .notes
                .as_ref()
                .unwrap()
                .installation,
            &installation
        );
        Ok(())
    });
    tried.unwrap();
}

#[test]
fn what_is_not_safe_to_install_anew() {
    use FailureKind::{NotAsLeft, Protected, Refused};
    let table: &[(&str, Change, Result<(), FailureKind>)] = &[
        ("as it was left", |_| (), Ok(())),
        (
            "by the ID of the installation",
            |f| f.confirmed = vec!["web1:01234567".into()],
            Ok(()),
        ),
        (
            "protected",
            |f| vm(f).beside.protected = true,
            Err(Protected),
        ),
        (
            "with a device of the node",
            |f| vm(f).beside.devices = vec!["hostpci0".into()],
            Err(Refused),
        ),
        (
            "with a disk of the node",
            |f| vm(f).beside.disks = vec![("scsi1".into(), "/dev/sdb".into())],
            Err(Refused),
        ),
        (
            "with a volume of another VM",
            |f| vm(f).beside.disks = vec![("scsi1".into(), "lvm:vm-102-disk-0,shared=1".into())],
            Err(Refused),
        ),
        (
            "with the variables naming another drive",
            |f| {
                vm(f).layout.disk_key = "scsi1".into();
                vm(f).layout.disk = Some("lvm:vm-101-disk-1".into());
                f.confirmed.push("web1:lvm:vm-101-disk-1".into());
            },
            Err(Refused),
        ),
        (
            "with another disk in the place of the installed one, which is still there",
            |f| {
                vm(f).layout.disk = Some("lvm:vm-101-disk-1".into());
                vm(f).beside.disks = vec![("scsi1".into(), "lvm:vm-101-disk-0,size=4G".into())];
                f.confirmed.push("web1:lvm:vm-101-disk-1".into());
            },
            Err(Refused),
        ),
        ("without its record", |f| vm(f).lost = true, Err(NotAsLeft)),
        (
            "rolled back",
            |f| vm(f).record = Recorded::RolledBack(record(Phase::Done)),
            Err(NotAsLeft),
        ),
        (
            "with another boot disk",
            |f| vm(f).layout.disk = Some("zfs:vm-101-disk-0".into()),
            Err(NotAsLeft),
        ),
        (
            "without a boot disk",
            |f| vm(f).layout.disk = None,
            Err(NotAsLeft),
        ),
        (
            "with a moved boot disk",
            |f| {
                vm(f).layout.disk = Some("zfs:vm-101-disk-0".into());
                f.confirmed.push("web1:zfs:vm-101-disk-0".into());
            },
            Ok(()),
        ),
    ];
    for (what, change, expected) in table {
        let mut facts = facts(Phase::Done);
        facts.confirmed = vec!["web1".into()];
        change(&mut facts);
        let found = decide(&facts).map(|decision| {
            assert_eq!(decision, Decision::Reinstall(record(Phase::Done)), "{what}")
        });
        assert_eq!(found.map_err(|failure| failure.kind), *expected, "{what}");
    }
}

#[test]
fn a_confirmation_counts_once() {
    let mut facts = facts(Phase::Done);
    for (words, reinstall, confirmed, used) in [
        (vec![], None, false, false),
        (vec!["web2"], None, false, false),
        (vec!["web1"], None, true, false),
        (vec!["web1"], Some("web1"), false, true),
        (vec!["web1", "web1:01234567"], Some("web1"), true, false),
        (vec!["web1:0123456"], Some("web1"), false, true),
        (vec!["web1:89abcdef"], None, false, true),
        (vec!["web10"], None, false, false),
    ] {
        facts.confirmed = words.iter().map(|word| (*word).to_owned()).collect();
        let mut found = record(Phase::Done);
        found.reinstall = reinstall.map(|word| Reinstall {
            confirmed: word.into(),
            detached: Vec::new(),
        });
        vm(&mut facts).record = Recorded::Ours(found.clone());
        let decision = decide(&facts).unwrap();
        assert_eq!(
            matches!(decision, Decision::Reinstall(_)),
            confirmed,
            "{words:?}"
        );
        let said = crate::reinstall::used(&facts, &found);
        assert_eq!(said.is_some(), used, "{words:?}");
        assert!(said.is_none_or(|said| said.ends_with("set it to web1:01234567")));
    }
    // What is under way, and what is nobody's, is not installed anew by it.
    facts.confirmed = vec!["web1".into()];
    let adopted = Facts {
        confirmed: facts.confirmed.clone(),
        ..self::facts(Phase::Adopted)
    };
    assert_eq!(decide(&adopted).unwrap_err().kind, FailureKind::Refused);
    for phase in [Phase::Provisioning, Phase::Installed] {
        let mut facts = Facts {
            confirmed: facts.confirmed.clone(),
            ..self::facts(phase)
        };
        facts.answer = Answer::Installer;
        assert!(
            !matches!(decide(&facts), Ok(Decision::Reinstall(_))),
            "{phase}"
        );
    }
}

#[test]
fn nothing_is_installed_beside_other_disks() {
    let mut facts = facts(Phase::Installing);
    let mut found = record(Phase::Installing);
    found.reinstall = Some(Reinstall {
        confirmed: "web1".into(),
        detached: vec![("scsi1".into(), "lvm:vm-101-disk-1".into())],
    });
    vm(&mut facts).record = Recorded::Ours(found.clone());
    facts.answer = Answer::Installer;
    assert_eq!(decide(&facts).unwrap(), Decision::Install(found.clone()));
    facts.answer = Answer::Installed;
    assert_eq!(decide(&facts).unwrap_err().kind, FailureKind::NotAsLeft);
    facts.answer = Answer::Installer;
    vm(&mut facts).layout.installer = None;
    let hint = decide(&facts).unwrap_err().hint.unwrap();
    assert!(hint.contains("they are its unused ones"), "{hint}");
    vm(&mut facts).layout = layout(Phase::Installing);
    vm(&mut facts).beside.disks = vec![("scsi1".into(), "lvm:vm-101-disk-1".into())];
    assert_eq!(decide(&facts).unwrap_err().kind, FailureKind::NotAsLeft);
    // Before the installer boots, the disks that are to be detached may still be there, and no others.
    found.phase = Phase::Reinstalling;
    vm(&mut facts).record = Recorded::Ours(found.clone());
    assert_eq!(decide(&facts).unwrap(), Decision::Reinstall(found));
    vm(&mut facts)
        .beside
        .disks
        .push(("scsi2".into(), "lvm:vm-101-disk-2".into()));
    assert_eq!(decide(&facts).unwrap_err().kind, FailureKind::NotAsLeft);
}
