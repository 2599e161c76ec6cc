//! Answers about releases, kept for as long as their server allows: a hundred hosts that run in
//! parallel ask once. (Without a token GitHub answers sixty questions an hour.)

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ansible_module::Failure;
use deadline::Deadline;
use pve_client::sha256_bytes;
use pve_module::{Lock, paths};
use serde::{Deserialize, Serialize};

use crate::fetch::{Fetch, Text, With};

/// No answer is kept for longer.
const LONGEST: Duration = Duration::from_secs(300);

/// An answer in its file.
#[derive(Serialize, Deserialize)]
struct Answer {
    /// When it may not be used any more, in seconds since 1970.
    until: u64,
    text: String,
}

/// The text at `url`: one that is known and not too old, else asked for.
///
/// # Errors
/// As [`Fetch::text`]. Where nothing can be kept, each asks.
pub async fn text(url: &str, with: With<'_>, deadline: &Deadline) -> Result<String, Failure> {
    let fetch = Fetch::new()?;
    // With another token there may be another answer.
    let key = sha256_bytes(format!("{url}\0{}", with.token.unwrap_or_default()).as_bytes());
    let Ok(dir) = paths::cache_dir().map(|dir| dir.join("answers")) else {
        return Ok(fetch.text(url, with, deadline).await?.text);
    };
    let path = dir.join(format!("{key}.json"));
    let _lock = Lock::acquire(&format!("answer-{key}"), deadline).await?;
    if let Some(text) = read(&path) {
        return Ok(text);
    }
    let Text { text, age, .. } = fetch.text(url, with, deadline).await?;
    if let Some(age) = age {
        let until = now() + age.min(LONGEST).as_secs();
        // What cannot be kept is asked for again.
        let _ = write(
            &dir,
            &path,
            &Answer {
                until,
                text: text.clone(),
            },
        );
    }
    Ok(text)
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// An answer that may be used; one that may not is removed.
fn read(path: &Path) -> Option<String> {
    let answer: Answer = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    // A clock that was set back must not make it last.
    let left = answer.until.saturating_sub(now());
    if (1..=LONGEST.as_secs()).contains(&left) {
        return Some(answer.text);
    }
    let _ = std::fs::remove_file(path);
    None
}

/// Remove the answers that nobody may use any more.
fn remove_old(dir: &Path) {
    let is_old = |entry: &std::fs::DirEntry| {
        let modified = entry.metadata().and_then(|found| found.modified());
        modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > LONGEST))
    };
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    for entry in entries.filter(is_old) {
        let _ = std::fs::remove_file(entry.path());
    }
}

fn write(dir: &Path, path: &Path, answer: &Answer) -> io::Result<()> {
    paths::make_private_dir(dir)?;
    remove_old(dir);
    let new = path.with_extension(format!("{}.new", std::process::id()));
    std::fs::write(&new, serde_json::to_vec(answer)?)?;
    std::fs::rename(&new, path)
}
