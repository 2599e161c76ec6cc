//! The build of the configuration, which runs beside the steps before the installation: Nix may take longer than upload and boot together.
//!
//! `decide` starts this program again for it. The process answers as the module `nixos_anywhere_install` does, into a file of the
//! installation's directory, and holds a lock on that file for as long as it lives: an unlocked file is of a build that has ended,
//! however it ended. `boot` refuses to start a machine whose build has failed, and `install` waits for the paths.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use ansible_module::{Failure, Progress};
use deadline::Deadline;
use nixos_anywhere_install::NixosAnywhereInstall;
use pve_module::paths::make_private_dir;
use serde_json::{Map, Value};

use crate::error::StepError;
use crate::module_args::Args;
use crate::store::{Installation, Store};
use crate::system_facts;

/// The directory of the builds in that of their installation.
pub const DIR: &str = "builds";

/// The second argument that makes this program run as a build. The first is the file of the arguments.
const ARGUMENT: &str = "build";

/// How often a build that is waited for is looked at.
const PAUSE: Duration = Duration::from_millis(200);

/// The most bytes that are read at once. A result names two store paths and a few warnings.
const LARGEST: u64 = 1 << 20;

/// Whether this process is a build, by its command line.
pub fn is_this_process() -> bool {
    std::env::args_os()
        .nth(2)
        .is_some_and(|argument| argument == ARGUMENT)
}

/// Run as the build. The arguments come from the standard input, so that no process list shows them.
pub fn main() -> ExitCode {
    ansible_module::main_detached::<NixosAnywhereInstall>()
}

/// The build of one run.
#[derive(Debug)]
pub struct Build {
    result: PathBuf,
    progress: PathBuf,
}

impl Build {
    /// The build of the run with this ID, whether or not it was started.
    pub fn of(installation: &Installation, run: &str) -> Self {
        let dir = installation.path(DIR);
        Self {
            result: dir.join(format!("{run}.json")),
            progress: dir.join(format!("{run}.progress")),
        }
    }

    /// Start it with these options of `nixos_anywhere_install`, and leave it to itself.
    ///
    /// # Errors
    /// The system's.
    pub fn start(&self, installation: &Installation, mut args: Args) -> io::Result<()> {
        make_private_dir(installation.dir())?;
        make_private_dir(&installation.path(DIR))?;
        let result = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.result)?;
        // The child inherits the open file, and the lock with it.
        result.try_lock()?;
        args.insert("progress_path".into(), text(&self.progress));
        args.insert("_ansible_inject_invocation".into(), false.into());
        let mut child = Command::new("/proc/self/exe")
            .arg0(env!("CARGO_PKG_NAME"))
            .args(["/dev/stdin", ARGUMENT])
            .stdin(Stdio::piped())
            .stdout(result)
            .stderr(Stdio::null())
            .spawn()?;
        match child.stdin.take() {
            Some(mut stdin) => stdin.write_all(Value::Object(args).to_string().as_bytes()),
            None => Ok(()),
        }
    }

    /// Refuse to go on if it has failed already: it would fail again, after the machine was started.
    ///
    /// # Errors
    /// Kind `build`, with the build's message and hint.
    pub fn check(&self, object: &str) -> Result<(), StepError> {
        let result = read(&self.result).unwrap_or_default();
        if result.get("failed") != Some(&Value::Bool(true)) {
            return Ok(());
        }
        let words = |key: &str| Some(result.get(key)?.as_str()?.to_owned());
        Err(StepError::BuildFailed {
            object: object.to_owned(),
            msg: words("msg").unwrap_or_else(|| "the build failed".to_owned()),
            hint: words("hint"),
        })
    }

    /// Wait until it has ended, and show what it does meanwhile. Returns its result if it has built something that is still there.
    ///
    /// # Errors
    /// Kind `timeout` when it runs until the deadline.
    pub async fn wait(
        &self,
        progress: &Progress,
        deadline: &Deadline,
    ) -> Result<Option<Map<String, Value>>, Failure> {
        let Ok(file) = File::open(&self.result) else {
            return Ok(None);
        };
        let since = Instant::now();
        let mut shown = 0;
        loop {
            let ended = file.try_lock_shared().is_ok();
            for event in new_events(&self.progress, &mut shown) {
                progress.emit(&event);
            }
            if ended {
                break;
            }
            if !deadline.sleep(PAUSE).await {
                let what = "the build beside the play".to_owned();
                let expired = deadline.expired_error(what, since.elapsed());
                return Err(Failure::from(expired)
                    .hint("raise nixos_vm_install_timeout if the build takes longer"));
            }
        }
        Ok(read(&self.result).filter(is_there))
    }
}

/// Remove the results of ended builds from the directories of installations that never began, whatever their age.
pub fn remove_ended(store: &Store) {
    store
        .strays()
        .iter()
        .for_each(|stray| remove_ended_in(stray));
}

/// The same in one of these directories, which is removed if nothing else is in it. Another run on this controller may make its keys
/// there at any moment, so directories are only removed if they are empty.
fn remove_ended_in(installation: &Path) {
    let dir = installation.join(DIR);
    let files = fs::read_dir(&dir).into_iter().flatten().flatten();
    let results = files
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|end| end == "json"));
    let mut any = false;
    for result in results.filter(|result| has_ended(result)) {
        let _ = fs::remove_file(result.with_extension("progress"));
        any |= fs::remove_file(result).is_ok();
    }
    if any && fs::remove_dir(&dir).is_ok() {
        let _ = fs::remove_dir_all(installation.join(system_facts::DIR));
        let _ = fs::remove_dir(installation);
    }
}

fn has_ended(result: &Path) -> bool {
    // The shared lock: NFS gives the exclusive one only to who may write.
    File::open(result).is_ok_and(|file| file.try_lock_shared().is_ok())
}

/// The result, once it is whole.
fn read(result: &Path) -> Option<Map<String, Value>> {
    serde_json::from_slice(&read_from(result, 0).ok()?).ok()
}

/// What a file has from byte `from` on, up to [`LARGEST`] bytes.
fn read_from(path: &Path, from: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut text = Vec::new();
    file.take(LARGEST).read_to_end(&mut text)?;
    Ok(text)
}

/// Whether a build ended well, and what it built was not removed since.
fn is_there(result: &Map<String, Value>) -> bool {
    let built = |paths: &Map<String, Value>| {
        paths
            .values()
            .all(|path| path.as_str().is_some_and(|path| Path::new(path).exists()))
    };
    result.get("failed") != Some(&Value::Bool(true))
        && match result.get("store_paths") {
            Some(Value::Object(paths)) => built(paths),
            // It is built with the installation.
            other => other.is_some_and(Value::is_null),
        }
}

/// The events from byte `from` of a file of progress, which goes on to what follows the last whole line.
fn new_events(path: &Path, from: &mut u64) -> Vec<Value> {
    let Ok(text) = read_from(path, *from) else {
        return Vec::new();
    };
    let whole = text
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    *from += whole as u64;
    text[..whole]
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect()
}

fn text(path: &Path) -> Value {
    path.to_string_lossy().into_owned().into()
}

#[cfg(test)]
mod tests {
    use ansible_module::FailureKind;
    use serde_json::json;

    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn build(dir: &Path) -> (Build, File) {
        let installation = Store::new(dir.to_owned()).installation(ID);
        let build = Build::of(&installation, "r1");
        fs::create_dir_all(installation.path(DIR)).unwrap();
        let file = File::create(&build.result).unwrap();
        (build, file)
    }

    async fn waited(build: &Build) -> Option<Map<String, Value>> {
        let deadline = Deadline::after(Duration::from_secs(60));
        build.wait(&Progress::default(), &deadline).await.unwrap()
    }

    #[tokio::test]
    async fn a_build_is_waited_for_while_it_lives() {
        let dir = tempfile::tempdir().unwrap();
        let (build, file) = build(dir.path());
        file.try_lock().unwrap();
        let result = json!({"changed": false, "store_paths": {"disko": "/", "system": "/"}});
        let ends = async {
            tokio::time::sleep(PAUSE).await;
            assert!(!has_ended(&build.result));
            (&file).write_all(result.to_string().as_bytes()).unwrap();
            drop(file);
        };
        let (found, ()) = tokio::join!(waited(&build), ends);
        assert_eq!(found.map(Value::Object), Some(result));
    }

    #[tokio::test]
    async fn only_what_was_built_and_is_there_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (build, mut file) = build(dir.path());
        let mut counts = async |text: &str| {
            file.set_len(0).unwrap();
            file.rewind().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            waited(&build).await.is_some()
        };
        // A build that was killed leaves nothing, or half a line.
        assert!(!counts("").await);
        assert!(!counts(r#"{"store_paths": {"sys"#).await);
        assert!(!counts(r#"{"failed": true, "msg": "no"}"#).await);
        assert!(!counts(r#"{"store_paths": {"disko": "/", "system": "/gone"}}"#).await);
        assert!(counts(r#"{"store_paths": {"disko": "/", "system": "/"}}"#).await);
        assert!(counts(r#"{"store_paths": null}"#).await);
        fs::remove_file(&build.result).unwrap();
        assert!(waited(&build).await.is_none());
    }

    #[test]
    fn a_failed_build_is_refused_in_its_own_words() {
        let dir = tempfile::tempdir().unwrap();
        let (build, mut file) = build(dir.path());
        build.check("VM web1").unwrap();
        file.write_all(br#"{"failed": true, "msg": "no such option", "hint": "mend it"}"#)
            .unwrap();
        let failure = Failure::from(build.check("VM web1").unwrap_err());
        assert_eq!(
            (failure.kind, &*failure.msg),
            (FailureKind::Build, "no such option")
        );
        assert_eq!(failure.hint.as_deref(), Some("mend it"));
    }

    #[test]
    fn events_are_read_once_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("progress");
        let mut shown = 0;
        assert!(new_events(&path, &mut shown).is_empty());
        fs::write(&path, "{\"event\":1}\nno json\n{\"event\":2}\n{\"eve").unwrap();
        let events = new_events(&path, &mut shown);
        assert_eq!(events, [json!({"event": 1}), json!({"event": 2})]);
        fs::write(
            &path,
            "{\"event\":1}\nno json\n{\"event\":2}\n{\"event\":3}\n",
        )
        .unwrap();
        assert_eq!(new_events(&path, &mut shown), [json!({"event": 3})]);
    }

    /// Whether the installation's directory is there after ended builds are removed from it.
    fn stays(files: &[&str], locked: bool) -> bool {
        let dir = tempfile::tempdir().unwrap();
        let installation = dir.path().join(ID);
        for dir in [DIR, system_facts::DIR] {
            fs::create_dir_all(installation.join(dir)).unwrap();
        }
        let files: Vec<File> = files
            .iter()
            .map(|name| File::create(installation.join(name)).unwrap())
            .collect();
        if locked {
            files[0].try_lock().unwrap();
        }
        remove_ended_in(&installation);
        installation.exists()
    }

    #[test]
    fn only_builds_that_have_ended_are_removed() {
        let build = ["builds/r1.json", "builds/r1.progress"];
        assert!(!stays(&build, false));
        assert!(!stays(&["builds/r1.json", "facts/flake.nix"], false));
        assert!(stays(&build, true));
        assert!(stays(&[], false), "its build may be about to begin");
        assert!(stays(&["builds/r1.json", "builds/r2.progress"], false));
        assert!(stays(&["builds/r1.json", "installer_host_key"], false));
    }
}
