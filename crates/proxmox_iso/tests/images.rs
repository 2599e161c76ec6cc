//! What is sent has to be an ISO image; what is compressed is unpacked on the way.

mod common;

use std::io::{Read, Write};

use common::*;
use insta::assert_snapshot;
use serde_json::{Value, json};

/// An image of some size that compresses.
fn image(seed: u8) -> Vec<u8> {
    let body: Vec<u8> = (0..700_000u32).map(|i| (i / 64) as u8 ^ seed).collect();
    iso(&body)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    bzip2::read::BzEncoder::new(bytes, bzip2::Compression::fast())
        .read_to_end(&mut packed)
        .unwrap();
    packed
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let options = lzma_rust2::XzOptions::with_preset(1);
    let mut writer = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

type Pack = fn(&[u8]) -> Vec<u8>;
const ALL: [(&str, Pack); 4] = [("gz", gzip), ("bz2", bzip2), ("xz", xz), ("zst", zstd)];

fn packed_with(more: Value) -> Value {
    with(json!({"download_by": "controller"}), more)
}

#[test]
fn compressed_files_are_unpacked_on_the_way() {
    let lab = lab();
    let image = image(1);
    for (ending, pack) in ALL {
        let packed = pack(&image);
        let src = lab.file(&format!("{ending}.iso.{ending}"), &packed);
        let stored = lab.stored(&format!("{ending}.iso"));
        lab.changed(json!({"src": src, "_ansible_check_mode": true}));
        assert!(!stored.exists());
        let first = lab.changed(json!({"src": src}));
        assert_eq!(first["volid"], format!("local:iso/{ending}.iso"));
        assert_eq!(first["checksum"], sha256(&image), "{ending}");
        assert!(std::fs::read(&stored).unwrap() == image, "{ending}");
        // The same again, whichever of its checksums is given.
        for more in [
            json!({}),
            json!({"checksum": sha256(&image)}),
            json!({"checksum": sha256(&packed)}),
        ] {
            let again = same(&lab, with(json!({"src": src}), more));
            assert_eq!(again["checksum"], sha256(&image));
        }
        // Without a record the node compares the image.
        std::fs::remove_dir_all(lab.path(".cache/nixos-proxmox/isos")).unwrap();
        same(&lab, json!({"src": src}));
        // Another image in a file of the same name.
        let other = lab.file(
            &format!("{ending}.iso.{ending}"),
            pack(&image_of_same_size()),
        );
        assert_failed(&lab.run(json!({"src": other})), "exists", &["differs"]);
    }
}

#[test]
fn another_compression_of_the_same_image_is_the_same() {
    let lab = lab();
    let web = Web::start();
    let image = image(7);
    let plain = lab.file("plain.iso", &image);
    let other = image_of_same_size();
    let name = |more| with(json!({"name": "x.iso"}), more);
    lab.changed(name(json!({"src": plain})));
    let uploads = lab.count("POST", "/upload");
    for (ending, pack) in ALL {
        let packed = pack(&image);
        let src = lab.file(&format!("a.iso.{ending}"), &packed);
        let url = web.put(&format!("/a.iso.{ending}"), Page::new(packed.clone()));
        // Neither the name nor the address shows that this one is compressed.
        let hidden = web.put(&format!("/get/{ending}"), Page::new(packed.clone()));
        for task in [
            json!({"src": src}),
            json!({"src": src, "force": true}),
            json!({"src": src, "checksum": sha256(&packed)}),
            json!({"src": src, "checksum": sha512(&packed)}),
            json!({"src": src, "checksum": sha512(&image)}),
            packed_with(json!({"url": url, "checksum": sha256(&packed)})),
            packed_with(json!({"url": url, "checksum": sha512(&packed), "force": true})),
            packed_with(
                json!({"url": url, "checksum": sha256(&packed), "cache_dir": lab.path("cache")}),
            ),
            packed_with(json!({"url": hidden, "checksum": sha256(&packed)})),
            packed_with(json!({"url": hidden, "checksum": sha512(&packed), "force": true})),
        ] {
            // What it learned of one file must not decide the next case.
            for check in [true, false] {
                let task = with(name(task.clone()), json!({"_ansible_check_mode": check}));
                let result = same(&lab, task.clone());
                assert_eq!(result["checksum"], sha256(&image), "{task}: {result}");
            }
            forget_all_but(&lab, &sha256(&image));
        }
        // Without a record the node compares what is in it.
        for task in [
            json!({"src": src}),
            packed_with(json!({"url": url, "checksum": sha256(&packed)})),
            packed_with(json!({"url": hidden, "checksum": sha256(&packed)})),
        ] {
            std::fs::remove_dir_all(lab.path(".cache/nixos-proxmox/isos")).unwrap();
            same(&lab, name(task));
        }
        // What is in it differs.
        let packed = pack(&other);
        let src = lab.file(&format!("b.iso.{ending}"), &packed);
        let hidden = web.put(&format!("/other/{ending}"), Page::new(packed.clone()));
        for task in [
            json!({"src": src}),
            packed_with(json!({"url": hidden, "checksum": sha256(&packed)})),
        ] {
            let differs = format!("{} instead of {}", sha256(&image), sha256(&other));
            let result = lab.run(name(task));
            assert_failed(&result, "exists", &["content differs", &differs]);
        }
    }
    assert_eq!(lab.count("POST", "/upload"), uploads);
    // What differs replaces it, and is known then.
    let packed = xz(&other);
    let src = lab.file("b.iso.xz", &packed);
    let task = name(json!({"src": src, "force": true}));
    lab.changed(task.clone());
    assert!(std::fs::read(lab.stored("x.iso")).unwrap() == other);
    same(&lab, task);
    assert_snapshot!(failure(&lab.fails(name(json!({"src": plain})))), @"
    exists: local:iso/x.iso exists already: its content differs: sha256:b849f29b2d513ee195e1d75014db5d7c8fdae31f6ae334a00f167e59c7d6b872 instead of sha256:fb54b433ceb4641b3dc2a48077ac59938f3fa18cad9532c8e5e25a25ec7c07a2
      set force: true to replace it, name: OTHER.iso to keep both, or checksum: ALGORITHM:HEX to have its content compared
    ");
}

#[test]
fn an_address_that_does_not_show_the_compression_is_idempotent() {
    let lab = lab();
    let web = Web::start();
    let packed = gzip(&image(8));
    let url = web.put("/download", Page::new(packed.clone()));
    let task = packed_with(json!({"url": url, "name": "x.iso"}));
    lab.changed(task.clone());
    same(&lab, task.clone());
    // The size of the compressed file says nothing of what is there.
    std::fs::remove_dir_all(lab.path(".cache/nixos-proxmox/isos")).unwrap();
    assert_snapshot!(failure(&lab.fails(task.clone())), @"
    exists: local:iso/x.iso exists already: nothing tells whether it is what http://127.0.0.1:[port]/download gives: its size is not known beforehand
      set force: true to replace it, name: OTHER.iso to keep both, or checksum: ALGORITHM:HEX to have its content compared
    ");
    web.put("/download", Page::new(gzip(&image(9))));
    let task = with(task, json!({"checksum": sha256(&packed)}));
    assert_snapshot!(failure(&lab.fails(task)), @"
    checksum_mismatch: checksum mismatch: http://127.0.0.1:[port]/download is not what its checksum says: expected sha256:e1099a726af3145ef626056d34bb10a719d04237c2932deecf5e8703fdf667b9, got sha256:0066ffba0c25d0a524607ef6baa4fa1c9160f16f13cc4ea8cf186a964e47bf00
      nothing was replaced; fetch or build the image again, or set checksum: ALGORITHM:HEX to that of the image that you want
    ");
}

#[test]
fn another_address_with_the_same_checksum_is_the_same() {
    let lab = lab();
    let web = Web::start();
    let image = image(10);
    let (first, second) = (
        web.put("/a/x.iso", Page::new(image.clone())),
        web.put("/b/x.iso", Page::new(image.clone())),
    );
    for by in ["node", "controller"] {
        let task = |url: &str, more| {
            let task = json!({"url": url, "name": format!("{by}.iso"), "download_by": by});
            with(task, more)
        };
        let sum = json!({"checksum": sha256(&image)});
        lab.changed(task(&first, sum.clone()));
        for more in [
            sum.clone(),
            with(sum.clone(), json!({"force": true})),
            json!({"checksum": sha512(&image)}),
        ] {
            same(&lab, task(&second, more));
        }
        assert_failed(
            &lab.run(task(&second, json!({}))),
            "exists",
            &["it was transferred from"],
        );
    }
}

fn image_of_same_size() -> Vec<u8> {
    image(2)
}

#[test]
fn the_checksum_may_be_of_the_file_or_of_the_image() {
    let lab = lab();
    let web = Web::start();
    let image = image(3);
    for (ending, pack) in ALL {
        let packed = pack(&image);
        let name = format!("{ending}.iso.{ending}");
        let url = web.put(&format!("/{name}"), Page::new(packed.clone()));
        for (at, checksum) in [sha256(&packed), sha256(&image)].into_iter().enumerate() {
            let name = format!("{ending}-{at}.iso");
            let cache = lab.path("cache");
            for (more, kind) in [
                (json!({"url": url}), "stream"),
                (json!({"url": url, "cache_dir": cache}), "cache"),
            ] {
                let name = format!("{kind}-{name}");
                let task = packed_with(with(more, json!({"name": name, "checksum": checksum})));
                lab.changed(task.clone());
                assert!(std::fs::read(lab.stored(&name)).unwrap() == image);
                same(&lab, task);
            }
        }
        let wrong = lab.run(packed_with(
            json!({"url": url, "name": "w.iso", "checksum": sha256(b"x")}),
        ));
        assert_failed(
            &wrong,
            "checksum_mismatch",
            &[&name, "is not what its checksum says"],
        );
        assert!(!lab.stored("w.iso").exists());
        // By the node it is refused before anything is downloaded.
        let node = lab.run(json!({"url": url}));
        assert_failed(
            &node,
            "not_an_image",
            &["compressed", "download_by: controller"],
        );
        let hidden = web.put("/plain.iso", Page::new(packed));
        let node = lab.run(json!({"url": hidden}));
        assert_failed(
            &node,
            "not_an_image",
            &["compressed", "download_by: controller"],
        );
    }
    assert_eq!(lab.count("POST", "/download-url"), 0);
}

#[test]
fn members_frames_and_padding_are_unpacked_too() {
    let lab = lab();
    let image = image(4);
    let (first, second) = image.split_at(300_000);
    for (ending, pack) in ALL {
        let mut packed = [pack(first), pack(second)].concat();
        if ending == "zst" {
            // A frame to be skipped.
            let skipped = [&b"\x50\x2a\x4d\x18\x03\0\0\0"[..], b"abc"].concat();
            packed = [skipped, packed].concat();
        }
        let src = lab.file(&format!("{ending}.iso.{ending}"), &packed);
        lab.changed(json!({"src": src}));
        assert!(std::fs::read(lab.stored(&format!("{ending}.iso"))).unwrap() == image);
    }
}

#[test]
fn what_is_damaged_or_hides_something_else_is_refused() {
    let lab = lab();
    let image = image(5);
    for (ending, pack) in ALL {
        let packed = pack(&image);
        let mut flipped = packed.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 0xff;
        for (name, bytes, text) in [
            (
                "cut",
                packed[..packed.len() - 9].to_vec(),
                "cannot be unpacked",
            ),
            ("flipped", flipped, ""),
            ("text", pack(b"no image"), "it is a text"),
            ("twice", pack(&gzip(&image)), "compressed (gzip)"),
            ("empty", pack(b""), "it is empty"),
        ] {
            let src = lab.file(&format!("{name}.iso.{ending}"), &bytes);
            let result = lab.run(json!({"src": src}));
            assert_failed(
                &result,
                "not_an_image",
                &[text, "content_check"].map(|t| {
                    if t == "content_check" && name != "text" {
                        ""
                    } else {
                        t
                    }
                }),
            );
            assert!(!lab.stored(&format!("{name}.iso")).exists());
        }
    }
    assert_eq!(lab.count("POST", "/upload"), 0);
}

#[test]
fn what_is_no_image_is_refused_before_it_is_written() {
    let lab = lab();
    let web = Web::start();
    let mut qcow2 = vec![0; 200_000];
    qcow2[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    let mut disk = vec![0; 200_000];
    disk[510..512].copy_from_slice(b"\x55\xaa");
    // An interrupted download of an image that says how long it is.
    let mut cut = iso(&vec![7; 100_000]);
    cut[32768 + 80..32768 + 84].copy_from_slice(&5000u32.to_le_bytes());
    cut[32768 + 128..32768 + 130].copy_from_slice(&2048u16.to_le_bytes());
    for (name, bytes, text) in [
        (
            "page.iso",
            b"<!DOCTYPE html><html>Sign in".to_vec(),
            "an HTML page",
        ),
        ("qcow2.iso", qcow2, "a qcow2 disk image"),
        ("disk.img", disk, "a raw disk image"),
        ("zeros.iso", vec![0; 65536], "nothing but zeros"),
        ("empty.iso", Vec::new(), "it is empty"),
        ("zip.iso", b"PK\x03\x04rest".to_vec(), "a ZIP archive"),
        ("random.iso", vec![0xee; 70_000], "of an unknown format"),
        ("cut.iso", cut, "is cut short"),
    ] {
        let src = lab.file(name, &bytes);
        let url = web.put(&format!("/{name}"), Page::new(bytes.clone()));
        for task in [
            json!({"src": src}),
            json!({"url": url}),
            json!({"url": url, "download_by": "controller"}),
            json!({"url": url, "download_by": "controller", "cache_dir": lab.path("cache")}),
            // Its checksum proves that it is what was published, not that it is an image.
            json!({"src": src, "checksum": sha256(&bytes)}),
        ] {
            for check in [true, false] {
                if check && task.get("cache_dir").is_some() {
                    continue;
                }
                let mut task = task.clone();
                task["_ansible_check_mode"] = json!(check);
                let result = lab.run(task);
                assert_failed(&result, "not_an_image", &[text, "content_check: false"]);
            }
        }
        assert!(!lab.stored(name).exists());
    }
    assert_eq!(
        lab.count("POST", "/upload") + lab.count("POST", "/download-url"),
        0
    );
    // The way out takes it as it is, compressed or not.
    let packed = gzip(&image(6));
    let src = lab.file("any.iso", &packed);
    lab.changed(json!({"src": src, "content_check": false}));
    assert!(std::fs::read(lab.stored("any.iso")).unwrap() == packed);
}

#[test]
fn an_old_image_survives_a_download_that_cannot_be_had() {
    let lab = lab();
    let web = Web::start();
    let old = iso(b"old");
    lab.changed(json!({"src": lab.file("x.iso", &old)}));
    let page = web.put("/page.iso", Page::new("<html>"));
    for url in [
        format!("{}/gone.iso", web.base),
        page,
        "http://127.0.0.9:1/x.iso".into(),
    ] {
        for by in ["node", "controller"] {
            let task = json!({"url": url, "name": "x.iso", "download_by": by, "force": true});
            let result = lab.run(task);
            assert_eq!(result["failed"], true, "{result}");
            assert!(
                std::fs::read(lab.stored("x.iso")).unwrap() == old,
                "{result}"
            );
        }
    }
}
