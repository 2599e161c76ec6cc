//! Property strings, sizes and identifiers: what is read is written the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pve_client::property::{PropertyString, format_size, parse_size};
use pve_client::{Upid, Volid};

fuzz_target!(|text: &str| {
    for default in [None, Some("file")] {
        if let Ok(read) = PropertyString::parse(text, default) {
            let written = read.to_string();
            let again = PropertyString::parse(&written, default).expect("it was written by us");
            assert!(read.same(&again));
            assert_eq!(again.to_string(), written);
        }
    }
    if let Some(size) = parse_size(text) {
        assert_eq!(parse_size(&format_size(size)), Some(size));
    }
    if let Ok(upid) = text.parse::<Upid>() {
        assert_eq!(upid.to_string(), text);
    }
    if let Ok(volid) = text.parse::<Volid>() {
        assert_eq!(volid.to_string(), text);
    }
});
