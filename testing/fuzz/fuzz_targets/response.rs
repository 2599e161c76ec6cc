//! Answers of a server that may be anything: two bytes of status, then the body.

#![no_main]

use std::cell::LazyCell;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use pve_client::{Client, Credential, Settings, StorageContent, Tls, VmStatus};

thread_local! {
    static CLIENT: LazyCell<Client> = LazyCell::new(|| {
        Client::new(Settings {
            hosts: vec!["127.0.0.1".into()],
            port: 1,
            credential: Credential::Token { id: "a@b!c".into(), secret: "the-secret".into() },
            tls: Tls::Insecure,
            request_timeout: Duration::from_secs(1),
        })
        .expect("settings of our own")
    });
}

fuzz_target!(|data: &[u8]| {
    let [high, low, body @ ..] = data else { return };
    let status = u16::from_be_bytes([*high, *low]) % 1000;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let client = CLIENT.with(|client| (*client).clone());
    match runtime.block_on(client.read_any(status, body.to_vec())) {
        Ok(data) => {
            let _ = serde_json::from_value::<Vec<StorageContent>>(data.clone());
            let _ = serde_json::from_value::<VmStatus>(data);
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.len() < 40_000 && !text.contains("the-secret"));
        }
    }
});
