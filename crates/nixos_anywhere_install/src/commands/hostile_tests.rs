//! Output of any bytes is heard to its end, and never kept as a whole.

use ansible_module::Progress;
use guest_ssh::OsRelease;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;

use super::*;
use crate::output::log::Log;
use crate::output::watch::Watch;

/// Pieces of output: those that mean something, and any others.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let telling = select(vec![
        "### Uploading install SSH keys ###\n",
        "### Installing NixOS ###\n",
        "### Done! ###\n",
        "###  ###",
        "### ###",
        "Permission denied (publickey)\n",
        "Host key verification failed.\n",
        "grub-install: error: no\n",
        "error: é",
        "\r\n",
        "\n",
        "\r",
        "\0",
    ]);
    prop_oneof![
        3 => telling.prop_map(|text| text.as_bytes().to_vec()),
        2 => prop::collection::vec(any::<u8>(), 0..40),
        1 => (1usize..200_000, any::<u8>()).prop_map(|(size, byte)| vec![byte; size]),
    ]
}

/// A watch that heard `bytes` on both streams, and the number of lines.
async fn heard(bytes: &[u8]) -> (Watch, usize) {
    let mut watch = Watch::new(Log::open(None).unwrap(), Progress::default(), None);
    let mut count = 0;
    for stdout in [true, false] {
        let (sender, mut lines) = mpsc::channel::<(bool, String)>(1);
        let hear = async {
            while let Some((stdout, line)) = lines.recv().await {
                // A broken byte becomes a character of three.
                assert!(line.len() as u64 <= 3 * LONGEST && !line.contains('\n'));
                watch.line(stdout, &line);
                watch.tick(Duration::ZERO, Work::default());
                let _ = watch.poll();
                let _ = watch.limit();
                count += 1;
            }
        };
        tokio::join!(read(bytes, stdout, sender), hear);
    }
    (watch, count)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn any_output_is_heard_and_little_of_it_kept() {
    let runtime = runtime();
    TestRunner::default()
        .run(&prop::collection::vec(piece(), 0..30), |pieces| {
            let bytes = pieces.concat();
            let (watch, count) = runtime.block_on(heard(&bytes));
            let ends = bytes.iter().filter(|byte| **byte == b'\n').count();
            prop_assert!(count >= 2 * ends);
            prop_assert!(watch.tail().lines().count() <= 20);
            prop_assert!(
                !watch
                    .tail()
                    .contains(|c: char| c.is_control() && !"\n\t".contains(c))
            );
            let _ = (watch.last(), watch.current(), watch.phases());
            Ok(())
        })
        .unwrap();
}

#[test]
fn any_os_release_is_read() {
    let texts = prop_oneof![
        any::<String>(),
        "((ID|ID_LIKE|VARIANT_ID)=['\"]?(nixos|installer)?[\\\\'\"]{0,3}\n?){0,4}",
    ];
    TestRunner::default()
        .run(&texts, |text| {
            let release = OsRelease::parse(&text);
            let _ = (release.kind(), release.get("ID"));
            prop_assert!(release.get("PRETTY_NAME").len() <= text.len());
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_line_without_an_end_comes_in_pieces() {
    let (watch, count) = runtime().block_on(heard(&vec![b'x'; 1 << 20]));
    assert_eq!(count, 32);
    // What is kept for a result is much shorter.
    assert!(watch.tail().len() < 25_000);
}

#[test]
fn phases_without_end_do_not_fill_the_result() {
    let output = format!(
        "### {} ###\n{}",
        "x".repeat(1000),
        "### Installing NixOS ###\n".repeat(1000)
    );
    let (watch, _) = runtime().block_on(heard(output.as_bytes()));
    assert_eq!(
        watch.phases().len() + usize::from(watch.current().is_some()),
        1
    );
}
