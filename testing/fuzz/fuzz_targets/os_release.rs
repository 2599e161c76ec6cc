//! The os-release of a guest.

#![no_main]

use guest_ssh::OsRelease;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let release = OsRelease::parse(text);
    let _ = release.kind();
    assert!(release.get("ID").len() <= text.len());
});
