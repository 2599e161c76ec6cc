//! What a guest prints to its serial console: few and short lines that control no terminal, however the bytes are cut.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pve_client::console::Lines;

fuzz_target!(|data: &[u8]| {
    let mut whole = Lines::default();
    whole.push(data);
    let lines = whole.last(usize::MAX);
    assert!(lines.len() <= 101);
    for line in &lines {
        assert!(line.len() < 2000 && !line.chars().any(char::is_control));
    }
    let mut parts = Lines::default();
    for part in data.chunks(3) {
        parts.push(part);
    }
    assert_eq!(parts.last(usize::MAX), lines);
});
