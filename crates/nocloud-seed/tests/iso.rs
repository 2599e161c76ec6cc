//! Images made by the writer, read by our reader and by programs that are not ours.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use nocloud_seed::iso;
use proptest::prelude::*;

fn files(list: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
    list.iter()
        .map(|(path, content)| ((*path).to_owned(), content.as_bytes().to_vec()))
        .collect()
}

fn nocloud() -> BTreeMap<String, Vec<u8>> {
    files(&[
        ("meta-data", "instance-id: x\n"),
        ("network-config", "version: 2\n"),
        ("user-data", &"#cloud-config\n".repeat(500)),
        ("vendor-data", ""),
    ])
}

fn config_drive() -> BTreeMap<String, Vec<u8>> {
    files(&[
        ("openstack/content/0000", "auto lo\n"),
        ("openstack/latest/meta_data.json", "{}"),
        ("openstack/latest/user_data", "#cloud-config\n"),
        ("openstack/latest/vendor_data.json", ""),
    ])
}

/// Writes an image to a temporary file.
fn on_disk(image: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), image).unwrap();
    file
}

/// Whether a program can be run at all.
fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

/// The whole tree below a directory.
fn tree(root: &Path, prefix: &str, into: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(root).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            tree(&entry.path(), &format!("{path}/"), into);
        } else {
            into.insert(path, std::fs::read(entry.path()).unwrap());
        }
    }
}

#[test]
fn equal_input_makes_equal_bytes() {
    assert_eq!(
        iso::write("cidata", &nocloud()),
        iso::write("cidata", &nocloud())
    );
    assert_eq!(iso::write("cidata", &nocloud()).len() % iso::SECTOR, 0);
}

#[test]
fn reads_back_what_was_written() {
    for (label, files) in [("cidata", nocloud()), ("config-2", config_drive())] {
        let image = iso::write(label, &files);
        assert_eq!(iso::label(&image).unwrap(), label);
        assert_eq!(iso::read(&image).unwrap(), files);
    }
}

#[test]
fn joliet_alone_is_read_too() {
    let mut image = iso::write("cidata", &nocloud());
    // Without `SP` in the root's first record there is no Rock Ridge.
    let sp = image.windows(4).position(|w| w == b"SP\x07\x01").unwrap();
    image[sp] = b'X';
    assert_eq!(iso::read(&image).unwrap(), nocloud());
}

#[test]
fn an_empty_image_has_no_files() {
    let image = iso::write("cidata", &BTreeMap::new());
    assert_eq!(iso::read(&image).unwrap(), BTreeMap::new());
}

#[test]
fn what_is_no_image_is_refused() {
    for bytes in [Vec::new(), vec![0; 40_000], b"#cloud-config\n".to_vec()] {
        assert!(iso::read(&bytes).is_err());
        assert!(iso::label(&bytes).is_err());
    }
}

#[test]
#[should_panic(expected = "not a usable name")]
fn names_that_cannot_be_held_are_a_bug() {
    iso::write("cidata", &files(&[("../etc/passwd", "")]));
}

/// libisofs extracts the same names and bytes, from either tree.
#[test]
fn xorriso_agrees() {
    if !is_there("xorriso") {
        eprintln!("skipped: no xorriso");
        return;
    }
    for (label, files) in [("cidata", nocloud()), ("config-2", config_drive())] {
        let image = on_disk(&iso::write(label, &files));
        for tree_kind in ["any", "norock"] {
            let out = tempfile::tempdir().unwrap();
            let target = out.path().join("x");
            let run = Command::new("xorriso")
                .args([
                    "-abort_on",
                    "WARNING",
                    "-read_fs",
                    tree_kind,
                    "-osirrox",
                    "on",
                    "-indev",
                ])
                .arg(image.path())
                .args(["-extract", "/"])
                .arg(&target)
                .output()
                .unwrap();
            let stderr = String::from_utf8_lossy(&run.stderr);
            assert!(run.status.success(), "{stderr}");
            assert!(
                stderr.contains(&format!("Volume id    : '{label}'")),
                "{stderr}"
            );
            // Mode 0500 directories are no obstacle to reading them as their owner.
            let mut found = BTreeMap::new();
            tree(&target, "", &mut found);
            assert_eq!(found, files, "read as {tree_kind}");
        }
    }
}

/// An image that libisofs made is read as well.
#[test]
fn images_of_xorriso_are_read() {
    if !is_there("xorriso") {
        eprintln!("skipped: no xorriso");
        return;
    }
    let source = tempfile::tempdir().unwrap();
    let mut files = config_drive();
    let long = "a-rather-long-name-".repeat(12);
    files.insert(long.clone(), b"long".to_vec());
    for (path, content) in &files {
        let path = source.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    std::os::unix::fs::symlink("nowhere", source.path().join("link")).unwrap();
    let image = source.path().with_extension("iso");
    let run = Command::new("xorriso")
        .args([
            "-as",
            "mkisofs",
            "-iso-level",
            "3",
            "-J",
            "-joliet-long",
            "-R",
            "-V",
            "cidata",
            "-o",
        ])
        .args([&image, source.path()])
        .output()
        .unwrap();
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    let bytes = std::fs::read(&image).unwrap();
    std::fs::remove_file(&image).unwrap();
    assert_eq!(iso::label(&bytes).unwrap(), "cidata");
    assert_eq!(iso::read(&bytes).unwrap(), files);
}

/// The Linux kernel mounts it, finds it by its label, and shows the same files.
/// Needs root and a loop device.
#[test]
fn linux_mounts_it() {
    let uid = Command::new("id").arg("-u").output().unwrap().stdout;
    if uid != b"0\n" {
        eprintln!("skipped: not root");
        return;
    }
    let image = on_disk(&iso::write("config-2", &config_drive()));
    for options in ["ro,loop", "ro,loop,norock"] {
        let at = tempfile::tempdir().unwrap();
        let run = Command::new("mount")
            .args(["-t", "iso9660", "-o", options])
            .args([image.path(), at.path()])
            .output()
            .unwrap();
        if !run.status.success() {
            eprintln!("skipped: mount: {}", String::from_utf8_lossy(&run.stderr));
            return;
        }
        let mut found = BTreeMap::new();
        tree(at.path(), "", &mut found);
        let gone = Command::new("umount").arg(at.path()).status().unwrap();
        assert!(gone.success());
        assert_eq!(found, config_drive(), "mounted with {options}");
    }
}

/// blkid, which udev's `/dev/disk/by-label` rests on, sees type and label.
#[test]
fn blkid_finds_the_label() {
    if !is_there("blkid") {
        eprintln!("skipped: no blkid");
        return;
    }
    let image = on_disk(&iso::write("cidata", &nocloud()));
    let run = Command::new("blkid")
        .args(["-p", "-o", "export"])
        .arg(image.path())
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(
        out.contains("LABEL=cidata\n") && out.contains("TYPE=iso9660\n"),
        "{out}"
    );
}

/// A name that all naming schemes can hold.
fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_.+@ -]{1,64}".prop_filter("a name", |n| n != "." && n != "..")
}

proptest! {

    /// Any files, in any directories, come back under their names, through Rock
    /// Ridge and through Joliet.
    #[test]
    fn round_trip(
        label in "[a-z0-9_-]{1,16}",
        entries in prop::collection::vec(
            (prop::collection::vec(name(), 0..3), name(), prop::collection::vec(any::<u8>(), 0..5000)),
            0..40,
        ),
    ) {
        let mut files = BTreeMap::new();
        for (index, (dirs, file, content)) in entries.into_iter().enumerate() {
            // Directories and files get names that cannot collide.
            let mut path: String = dirs.iter().map(|d| format!("d{}/", &d[..d.len().min(40)])).collect();
            path.push_str(&format!("f{index}{}", &file[..file.len().min(50)]));
            files.insert(path, content);
        }
        let mut image = iso::write(&label, &files);
        prop_assert_eq!(iso::label(&image).unwrap(), label);
        prop_assert_eq!(&iso::read(&image).unwrap(), &files);
        let sp = image.windows(4).position(|w| w == b"SP\x07\x01").unwrap();
        image[sp] = b'X';
        prop_assert_eq!(&iso::read(&image).unwrap(), &files);
    }

    /// A damaged image gives an error or some files, never a panic or a hang.
    #[test]
    fn damage_is_survived(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..50),
        length in any::<prop::sample::Index>(),
    ) {
        let mut image = iso::write("cidata", &config_drive());
        for (at, byte) in damage {
            let at = at.index(image.len());
            image[at] = byte;
        }
        let _ = iso::read(&image);
        let _ = iso::read(&image[..length.index(image.len())]);
        let _ = iso::label(&image);
    }
}
