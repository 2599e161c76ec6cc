//! The tree of files for the installed system. Nothing in it is written through a symbolic link:
//! each directory is opened from the one above it, without following links.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::options::{ExtraFile, Options};

/// What could not be staged, and why.
pub(crate) type Error = (String, io::Error);

/// The relative path of a file below the root of the installed system; none when `path` is not
/// the absolute path of a file, or leads upwards.
pub(crate) fn below(path: &str) -> Option<PathBuf> {
    if !path.starts_with('/') || path.ends_with('/') || path.contains(char::is_control) {
        return None;
    }
    // A single dot at the end names a directory.
    if path.ends_with("/.") {
        return None;
    }
    let mut below = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => below.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    (!below.as_os_str().is_empty()).then_some(below)
}

/// About how much space the tree takes, in bytes.
pub(crate) fn size(options: &Options) -> u64 {
    fn of(path: &Path) -> u64 {
        match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_dir() => fs::read_dir(path)
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| of(&entry.path()))
                .fold(4096, u64::saturating_add),
            Ok(meta) => meta.len().saturating_add(4096),
            Err(_) => 0,
        }
    }
    let single = options
        .extra_files
        .iter()
        .filter_map(|file| file.src.as_ref());
    let paths = options.extra_files_dir.iter().chain(single);
    paths.map(|path| of(path)).fold(0, u64::saturating_add)
}

/// Make the tree for the installed system at `tree`.
pub(crate) fn stage(options: &Options, tree: &Path) -> Result<(), Error> {
    let at = |error: io::Error| (tree.display().to_string(), error);
    fs::create_dir(tree).map_err(at)?;
    let root = open(rustix::fs::CWD, tree.as_os_str(), DIRECTORY).map_err(at)?;
    set_mode(&root, 0o755).map_err(at)?;
    // Set when everything is in place: a directory may be read-only.
    let mut modes = Vec::new();
    if let Some(directory) = &options.extra_files_dir {
        copy_tree(directory, &root, Path::new(""), &mut modes)?;
    }
    for file in &options.extra_files {
        stage_file(file, &root)
            .map_err(|error| (format!("the extra file {}", file.path), error))?;
    }
    for (path, mode) in modes {
        let mut directory = open(&root, OsStr::new("."), DIRECTORY).map_err(at)?;
        for part in &path {
            directory = open(&directory, part, DIRECTORY).map_err(at)?;
        }
        set_mode(&directory, mode).map_err(at)?;
    }
    Ok(())
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);
const NEW_FILE: OFlags = OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL);

/// Open what is called `name` in `directory`; never what a link leads to.
fn open(directory: impl AsFd, name: &OsStr, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(
        directory,
        name,
        flags,
        Mode::RUSR | Mode::WUSR,
    )?)
}

fn set_mode(file: impl AsFd, mode: u32) -> io::Result<()> {
    Ok(rustix::fs::fchmod(
        file,
        Mode::from_raw_mode(mode & 0o7777),
    )?)
}

/// Copy what is in `from` into `to`, which is `path` in the tree: directories, files and links, with
/// the modes of files. Those of directories are added to `modes`, inner ones first.
fn copy_tree(
    from: &Path,
    to: &OwnedFd,
    path: &Path,
    modes: &mut Vec<(PathBuf, u32)>,
) -> Result<(), Error> {
    let at = |error| (from.display().to_string(), error);
    for entry in fs::read_dir(from).map_err(at)? {
        let entry = entry.map_err(at)?;
        let (source, name) = (entry.path(), entry.file_name());
        let at = |error: io::Error| (source.display().to_string(), error);
        let meta = fs::symlink_metadata(&source).map_err(at)?;
        let mode = meta.permissions().mode();
        if meta.is_dir() {
            rustix::fs::mkdirat(to, &name, Mode::RWXU).map_err(|error| at(error.into()))?;
            let copy = open(to, &name, DIRECTORY).map_err(at)?;
            let path = path.join(&name);
            copy_tree(&source, &copy, &path, modes)?;
            modes.push((path, mode));
        } else if meta.is_symlink() {
            let link = fs::read_link(&source).map_err(at)?;
            rustix::fs::symlinkat(&link, to, &name).map_err(|error| at(error.into()))?;
        } else if meta.is_file() {
            let source = open(rustix::fs::CWD, source.as_os_str(), OFlags::RDONLY).map_err(at)?;
            write(to, &name, mode, &mut File::from(source)).map_err(at)?;
        } else {
            return Err(at(io::Error::other("is not a file, directory or link")));
        }
    }
    Ok(())
}

/// A new file that has its mode before it can be read by others.
fn write(to: &OwnedFd, name: &OsStr, mode: u32, content: &mut dyn io::Read) -> io::Result<()> {
    let mut file = File::from(open(to, name, NEW_FILE)?);
    io::copy(content, &mut file)?;
    file.flush()?;
    set_mode(&file, mode)
}

fn stage_file(file: &ExtraFile, root: &OwnedFd) -> io::Result<()> {
    let path = below(&file.path).ok_or_else(|| io::Error::other("is not the path of a file"))?;
    let (Some(name), Some(parents)) = (path.file_name(), path.parent()) else {
        return Err(io::Error::other("is not the path of a file"));
    };
    let mut directory = open(root, OsStr::new("."), DIRECTORY)?;
    let mut so_far = PathBuf::from("/");
    // The directories above take these modes on the installed system too; root's home is not for
    // others to read.
    let made = if path.starts_with("root") {
        0o700
    } else {
        0o755
    };
    for part in parents {
        so_far.push(part);
        directory = descend(&directory, part, &so_far, made)?;
    }
    match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let mode = mode(&file.mode).unwrap_or(0o600);
    match (&file.src, &file.content) {
        (Some(source), _) => write(&directory, name, mode, &mut File::open(source)?),
        (None, content) => {
            let text = content.as_ref().map_or("", |content| content.expose());
            write(&directory, name, mode, &mut text.as_bytes())
        }
    }
}

/// Open the directory `name`, which is made if it is missing.
fn descend(directory: &OwnedFd, name: &OsStr, path: &Path, made: u32) -> io::Result<OwnedFd> {
    match rustix::fs::mkdirat(directory, name, Mode::RWXU) {
        Ok(()) => {
            let new = open(directory, name, DIRECTORY)?;
            set_mode(&new, made)?;
            Ok(new)
        }
        Err(Errno::EXIST) => {
            let flags = DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(directory, name, flags, Mode::empty()).map_err(|error| match error {
                // O_DIRECTORY makes a link ENOTDIR, O_NOFOLLOW makes it ELOOP.
                Errno::LOOP | Errno::NOTDIR => io::Error::other(format!(
                    "{} is a link or a file in extra_files_dir",
                    path.display()
                )),
                error => error.into(),
            })
        }
        Err(error) => Err(error.into()),
    }
}

/// An octal mode with its leading zero: YAML turns an unquoted 0600 into 384.
pub(crate) fn mode(text: &str) -> Option<u32> {
    let digits = text.strip_prefix('0').filter(|digits| digits.len() >= 3)?;
    u32::from_str_radix(digits, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn staged(options: serde_json::Value) -> (tempfile::TempDir, Result<(), Error>) {
        let dir = tempfile::tempdir().unwrap();
        let options: Options = serde_json::from_value(options).unwrap();
        let result = stage(&options, &dir.path().join("tree"));
        (dir, result)
    }

    fn mode_of(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn files_are_staged_with_their_modes() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("etc/ssh")).unwrap();
        fs::write(tree.join("etc/ssh/key"), "old").unwrap();
        fs::write(tree.join("etc/run"), "x").unwrap();
        fs::set_permissions(tree.join("etc/run"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(tree.join("etc/ssh"), fs::Permissions::from_mode(0o555)).unwrap();
        symlink("run", tree.join("etc/link")).unwrap();
        symlink("/etc/passwd", tree.join("etc/replaced")).unwrap();
        fs::write(dir.path().join("src"), "from a file").unwrap();
        let (staged, result) = staged(json!({
            "extra_files_dir": tree,
            "extra_files": [
                {"path": "/etc/ssh/key", "content": "new"},
                {"path": "/etc//./replaced", "content": {"a": true}},
                {"path": "/root/.ssh/id", "src": dir.path().join("src"), "mode": "0400"},
                {"path": "/var/lib/x", "content": "x", "mode": "04755"},
            ],
        }));
        result.unwrap();
        let staged = staged.path().join("tree");
        let read = |name: &str| fs::read_to_string(staged.join(name)).unwrap();
        assert_eq!(read("etc/ssh/key"), "new");
        assert_eq!(mode_of(&staged.join("etc/ssh/key")), 0o600);
        assert_eq!(mode_of(&staged.join("etc/ssh")), 0o555);
        assert_eq!(mode_of(&staged.join("etc/run")), 0o755);
        assert_eq!(
            fs::read_link(staged.join("etc/link")).unwrap(),
            Path::new("run")
        );
        assert_eq!(read("etc/replaced"), r#"{"a": true}"#);
        assert!(!staged.join("etc/replaced").is_symlink());
        assert_eq!(read("root/.ssh/id"), "from a file");
        assert_eq!(mode_of(&staged.join("root/.ssh/id")), 0o400);
        assert_eq!(mode_of(&staged.join("root")), 0o700);
        assert_eq!(mode_of(&staged.join("root/.ssh")), 0o700);
        assert_eq!(mode_of(&staged.join("var/lib/x")), 0o4755);
        assert_eq!(mode_of(&staged.join("var/lib")), 0o755);
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (outside, tree) = (dir.path().join("outside"), dir.path().join("tree"));
        for path in [&outside.join("deep"), &tree.join("etc")] {
            fs::create_dir_all(path).unwrap();
        }
        fs::write(outside.join("key"), "the controller's own").unwrap();
        symlink(&outside, tree.join("etc/ssh")).unwrap();
        symlink("../../outside", tree.join("up")).unwrap();
        symlink("etc/ssh", tree.join("chain")).unwrap();
        symlink("dangling", tree.join("nowhere")).unwrap();
        fs::write(tree.join("file"), "x").unwrap();
        for path in [
            "/etc/ssh/key",
            "/etc/ssh/deep/key",
            "/up/key",
            "/chain/key",
            "/nowhere/key",
            "/file/key",
        ] {
            let (staged, result) = staged(json!({
                "extra_files_dir": tree, "extra_files": [{"path": path, "content": "x"}],
            }));
            let (what, error) = result.unwrap_err();
            assert!(what.contains(path), "{what}");
            assert!(error.to_string().contains("is a link or a file"), "{error}");
            assert!(!staged.path().join("dangling").exists());
        }
        assert_eq!(
            fs::read_to_string(outside.join("key")).unwrap(),
            "the controller's own"
        );
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 2);
        // The links themselves are copied as they are.
        let (staged, result) = staged(json!({"extra_files_dir": tree}));
        result.unwrap();
        assert_eq!(
            fs::read_link(staged.path().join("tree/etc/ssh")).unwrap(),
            outside
        );
    }

    #[test]
    fn a_path_is_one_of_a_file_below_the_root() {
        for (path, expected) in [
            ("/etc/x", Some("etc/x")),
            ("/a//b/./c", Some("a/b/c")),
            ("/a b", Some("a b")),
            ("/", None),
            ("//", None),
            ("/.", None),
            ("/etc/.", None),
            ("/etc/ssh/", None),
            ("/../x", None),
            ("/etc/../../y", None),
            ("/etc/..", None),
            ("../../x", None),
            ("etc/./x", None),
            ("", None),
            ("/a\nb", None),
            ("/a\0b", None),
        ] {
            assert_eq!(below(path).as_deref(), expected.map(Path::new), "{path:?}");
        }
    }

    proptest! {
        #[test]
        fn no_path_leads_out_of_the_tree(path in "(/|\\.\\./|\\./|a|\\.){0,8}") {
            if let Some(below) = below(&path) {
                prop_assert!(below.is_relative());
                prop_assert!(below.components().all(|part| matches!(part, Component::Normal(_))));
                let (dir, result) = staged(json!({"extra_files": [{"path": path, "content": "x"}]}));
                result.unwrap();
                prop_assert!(dir.path().join("tree").join(below).is_file());
            }
        }
    }

    #[test]
    fn a_mode_keeps_its_zero() {
        assert_eq!(mode("0600"), Some(0o600));
        assert_eq!(mode("04755"), Some(0o4755));
        for text in ["600", "384", "0", "0999", "077777", "u=rw"] {
            assert_eq!(mode(text), None, "{text}");
        }
    }
}
