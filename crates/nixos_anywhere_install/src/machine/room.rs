//! Whether what is copied has room on the machine.

use std::path::Path;

/// What the machine has, in bytes. A figure that it does not print is not judged by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    /// Free in the installer's own Nix store, which is in its memory.
    pub(crate) store: Option<u64>,
    /// All of its disks together.
    pub(crate) disks: Option<u64>,
    /// Its memory.
    pub(crate) memory: Option<u64>,
}

/// Prints `NAME=BYTES` lines.
pub(crate) const ASK: &str = r#"
df -Pk /nix/store 2>/dev/null | while read -r _ _ _ free _; do
  case $free in *[!0-9]*) ;; ?*) echo "store=$((free * 1024))" ;; esac
done
disks=
for size in /sys/block/*/size; do
  case $size in */loop* | */ram* | */zram* | */sr* | */fd* | */dm-* | */md*) continue ;; esac
  read -r sectors <"$size" && disks=$((${disks:-0} + sectors * 512))
done 2>/dev/null
[ -z "$disks" ] || echo "disks=$disks"
while read -r name value _; do
  [ "$name" != MemTotal: ] || echo "memory=$((value * 1024))"
done </proc/meminfo
"#;

/// The least memory that nixos-anywhere names for a kexec: 1 GB, of which the kernel counts less.
const KEXEC_MEMORY: u64 = 900 << 20;

/// A small NixOS system has more than this, and Nix unpacks what it downloads.
const BUILD_SPACE: u64 = 1 << 30;

/// The bytes that are free for this user in the file system of `path`, if it exists.
pub(crate) fn free(path: &str) -> Option<u64> {
    let found = rustix::fs::statvfs(path).ok()?;
    Some(found.f_bavail * found.f_frsize)
}

/// What is too small for a build on the controller.
pub(crate) fn too_little_to_build(free: Option<u64>) -> Option<String> {
    let free = free.filter(|free| *free < BUILD_SPACE)?;
    Some(format!(
        "the controller has {} free in /nix/store, and a NixOS system takes more than {}; free some with nix-collect-garbage",
        mebibytes(free),
        mebibytes(BUILD_SPACE)
    ))
}

impl Room {
    /// Read what [`ASK`] prints.
    pub(crate) fn parse(text: &str) -> Self {
        let value = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once('='));
            lines
                .find(|(found, _)| *found == name)?
                .1
                .trim()
                .parse()
                .ok()
        };
        Self {
            store: value("store"),
            disks: value("disks"),
            memory: value("memory"),
        }
    }

    /// What is too small for the closures of disko's script and of the system, as far as they are known.
    /// It is never sure: the installer may have a part of them, and file systems compress.
    pub(crate) fn doubts(&self, disko: Option<u64>, system: Option<u64>) -> Vec<String> {
        let mut doubts = Vec::new();
        if let (Some(needed), Some(free)) = (disko, self.store)
            && needed > free
        {
            doubts.push(format!(
                "disko's script and its tools are {}, and the installer has {} free in /nix/store; if they cannot \
                 be copied, give the machine more memory or set disko_deps: false",
                mebibytes(needed),
                mebibytes(free)
            ));
        }
        if let (Some(needed), Some(disks)) = (system, self.disks)
            && needed > disks
        {
            doubts.push(format!(
                "the system is {}, and the disks of the machine have {} together; give it a larger disk",
                mebibytes(needed),
                mebibytes(disks)
            ));
        }
        doubts
    }

    /// What is too small for a kexec.
    pub(crate) fn too_little_for_kexec(&self) -> Option<String> {
        let memory = self.memory.filter(|memory| *memory < KEXEC_MEMORY)?;
        Some(format!(
            "the machine has {} of memory, and nixos-anywhere asks for at least 1 GB for a kexec; give it more",
            mebibytes(memory)
        ))
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// The size of the closure of `path` in what `nix path-info --closure-size` prints.
pub(crate) fn closure_size(text: &str, path: &Path) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    lines.find_map(|mut words| {
        let found = words.next()?;
        (Path::new(found) == path).then(|| words.next()?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_prints_its_figures() {
        let text = "store=1048576\ndisks=2097152\nmemory=x\n";
        let expected = Room {
            store: Some(1 << 20),
            disks: Some(2 << 20),
            memory: None,
        };
        assert_eq!(Room::parse(text), expected);
        assert_eq!(Room::parse("sh: df: not found"), Room::default());
        let asked = std::process::Command::new("sh").args(["-c", ASK]).output();
        let text = String::from_utf8(asked.unwrap().stdout).unwrap();
        assert!(
            Room::parse(&text).memory.is_some_and(|memory| memory > 0),
            "{text}"
        );
    }

    #[test]
    fn a_controller_needs_room_to_build() {
        assert_eq!(too_little_to_build(None), None);
        assert_eq!(too_little_to_build(Some(BUILD_SPACE)), None);
        let doubt = too_little_to_build(Some(300 << 20)).unwrap();
        assert!(
            doubt.starts_with("the controller has 300 MiB free"),
            "{doubt}"
        );
        assert!(free("/").is_some_and(|free| free > 0));
        assert_eq!(free("/does/not/exist"), None);
    }

    #[test]
    fn what_is_too_small_is_said() {
        let mib = |count: u64| Some(count << 20);
        let room = Room {
            store: mib(100),
            disks: mib(1000),
            memory: mib(512),
        };
        let cases = [
            (room, mib(100), mib(1000), vec![]),
            (
                room,
                mib(101),
                mib(1000),
                vec!["101 MiB, and the installer has 100 MiB free"],
            ),
            (
                room,
                mib(1),
                mib(1001),
                vec!["1001 MiB, and the disks of the machine have 1000 MiB"],
            ),
            (room, None, None, vec![]),
            (Room::default(), mib(9999), mib(9999), vec![]),
        ];
        for (room, disko, system, expected) in cases {
            let doubts = room.doubts(disko, system);
            assert_eq!(doubts.len(), expected.len(), "{doubts:?}");
            for (doubt, part) in doubts.iter().zip(expected) {
                assert!(doubt.contains(part), "{doubt}");
            }
        }
        assert!(room.too_little_for_kexec().unwrap().contains("512 MiB"));
        for memory in [None, mib(900), mib(4096)] {
            assert_eq!(Room { memory, ..room }.too_little_for_kexec(), None);
        }
    }

    #[test]
    fn the_size_of_a_closure_stands_behind_its_path() {
        let text = "/nix/store/a-x\t  123456\n/nix/store/b-y 7\n/nix/store/c-z\n";
        for (path, expected) in [
            ("/nix/store/a-x", Some(123_456)),
            ("/nix/store/b-y", Some(7)),
            ("/nix/store/c-z", None),
            ("/nix/store/d", None),
        ] {
            assert_eq!(closure_size(text, Path::new(path)), expected, "{path}");
        }
        assert_eq!(closure_size("", Path::new("/")), None);
    }
}
