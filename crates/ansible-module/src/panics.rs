//! A panic is answered like any other failure: as JSON, with secrets masked.

use crate::FailureKind;
use std::panic::PanicHookInfo;
use std::sync::{Arc, Mutex, PoisonError};

use crate::Failure;
use crate::reply::Reply;

/// What a panic said, kept by the hook for whoever catches the unwinding.
static SAID: Mutex<Option<String>> = Mutex::new(None);

/// Keep panics from printing (Ansible shows a failed module's stderr, and a panic's message may
/// hold anything). Where panics abort, answer at once.
pub fn install(reply: Arc<Reply>) {
    std::panic::set_hook(Box::new(move |info| {
        let said = describe(info);
        if cfg!(panic = "abort") {
            reply.answer(Err(failure(reply.module, &said)));
            std::process::exit(1);
        }
        *SAID.lock().unwrap_or_else(PoisonError::into_inner) = Some(said);
    }));
}

/// The failure for a panic that was just caught.
pub fn caught(module: &str) -> Failure {
    let said = SAID.lock().unwrap_or_else(PoisonError::into_inner).take();
    failure(module, &said.unwrap_or_default())
}

fn failure(module: &str, said: &str) -> Failure {
    Failure::new(
        FailureKind::Internal,
        format!("internal error in {module}: {said}"),
    )
    .hint("this is a bug in the module, please report it")
}

fn describe(info: &PanicHookInfo) -> String {
    let payload = info.payload();
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic".into());
    match info.location() {
        Some(place) => format!("{text} ({}:{})", place.file(), place.line()),
        None => text,
    }
}
