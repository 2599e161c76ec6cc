//! Logs of tasks that failed: an error of a few lines, whatever they hold.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pve_client::{LogLine, task_failure};

fuzz_target!(|data: &[u8]| {
    let Ok(lines) = serde_json::from_slice::<Vec<LogLine>>(data) else {
        return;
    };
    let upid = "UPID:pve:0000556F:000535B1:6B02F7CE:qmstart:101:root@pam!t:";
    let upid = upid.parse().expect("an identifier as PVE makes them");
    let exitstatus = lines.first().map_or("", |line| &line.t);
    let error = task_failure(upid, exitstatus, &lines).to_string();
    assert!(error.len() < 100_000);
});
