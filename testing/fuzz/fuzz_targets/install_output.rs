//! Output of nixos-anywhere: heard to its end, and little of it kept.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let (phases, tail) = runtime
        .expect("a runtime")
        .block_on(nixos_anywhere_install::fuzzing::read_output(data));
    assert!(phases <= 65 && tail.len() <= 100_000);
});
