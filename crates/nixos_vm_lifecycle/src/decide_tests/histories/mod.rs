//! Histories of a machine: runs of the play that are cut off, two controllers, and people who change what they like.

mod play;
mod world;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use pve_module::record::Phase;

use self::world::{Event, History, Runs};

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
        2 => Just(Event::CopyNotes),
        2 => Just(Event::PasteNotes),
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

/// Have the events happen, none of which may format a disk that is not given up.
fn loses_nothing(history: &mut History, events: &[Event]) -> Result<(), TestCaseError> {
    for event in events {
        history.happen(*event);
        prop_assert!(history.lost.is_empty(), "{:?} was formatted", history.lost);
        prop_assert!(!history.data_lost);
    }
    Ok(())
}

#[test]
fn no_history_loses_a_disk() {
    let histories = prop::collection::vec(event(), 1..24);
    let tried = many().run(&histories, |events| {
        let mut history = History::new();
        loses_nothing(&mut history, &events)
    });
    tried.unwrap();
}

/// Plays of two controllers on a finished machine whose notes are lost, or replaced by earlier ones.
#[test]
fn old_notes_wipe_nothing() {
    let event = prop_oneof![
        2 => (0..2_usize, 1..30_u8).prop_map(|(who, writes)| Event::Play(who, writes)),
        2 => (0..2_usize, 1..18_u8).prop_map(|(who, writes)| Event::Reinstall(who, writes)),
        2 => Just(Event::CopyNotes),
        2 => Just(Event::PasteNotes),
        1 => Just(Event::EraseNotes),
    ];
    let tried = many().run(&prop::collection::vec(event, 1..12), |events| {
        let mut history = History::new();
        history.play(0, 200, true, false);
        history.happen(Event::AttachData);
        loses_nothing(&mut history, &events)
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
