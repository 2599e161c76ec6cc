//! A run of the play: the steps as the role takes them, one write after the other.

use pve_module::record::{Phase, Record, Reinstall};

use super::world::{Content, Disk, History, Machine, Runs};
use crate::decide_tests::{decide, record};
use crate::facts::{Answer, Decision, First};

impl History {
    /// A run of the play: it decides, and does what is due until it is cut off.
    pub fn play(&mut self, who: usize, writes: u8, quorum: bool, confirmed: bool) {
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
                    self.finalize(who, found, quorum, &mut step);
                    return;
                }
                // Converging gives the notes their record back, and starts it.
                Ok(Decision::Converge(found)) => {
                    if facts
                        .vm
                        .as_ref()
                        .unwrap()
                        .kept
                        .is_some_and(Phase::unfinished)
                    {
                        self.controllers[who].keep(&found);
                    }
                    let machine = self.machine.as_mut().unwrap();
                    machine.notes.get_or_insert(found);
                    return self.start();
                }
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
        self.controllers[who].keep(&record);
        self.controllers[who].ended = false;
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
        let begins = found.phase == Phase::Done;
        if begins {
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
        }
        self.controllers[who].keep(&record);
        self.controllers[who].ended = false;
        if !step() {
            return false;
        }
        machine.notes = Some(record.clone());
        machine.disk.given_up |= begins && !self.word_counted;
        if !step() {
            return false;
        }
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
        self.controllers[who].keep(&record);
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
        self.controllers[who].keep(&record);
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
        self.controllers[who].keep(&record);
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
        self.controllers[who].keep(&record);
        true
    }

    fn finalize(
        &mut self,
        who: usize,
        mut record: Record,
        quorum: bool,
        step: &mut impl FnMut() -> bool,
    ) {
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
            self.word_counted |= record.reinstall.is_some();
            machine.notes = Some(record.clone());
            if step() {
                self.controllers[who].keep(&record);
            }
            if step() {
                let records = &mut self.controllers[who].records;
                records.retain(|kept| kept.installation == record.installation);
            }
        }
    }
}
