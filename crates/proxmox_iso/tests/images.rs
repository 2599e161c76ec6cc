//! What is sent has to be an ISO image; what is compressed is unpacked on the way.

mod common;

use std::io::{Read, Write};

use common::*;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_files_are_unpacked_on_the_way() {
    let world = World::new();
    let image = image(1);
    for (ending, pack) in ALL {
        let packed = pack(&image);
        let src = world.file(&format!("{ending}.iso.{ending}"), &packed);
        let stored = world.stored(&format!("{ending}.iso"));
        let checked = world
            .run(json!({"src": src, "_ansible_check_mode": true}))
            .await;
        assert_changed(&checked, true);
        assert!(!stored.exists());
        let first = world.run(json!({"src": src})).await;
        assert_changed(&first, true);
        assert_eq!(first["volid"], format!("local:iso/{ending}.iso"));
        assert_eq!(first["checksum"], sha256(&image), "{ending}");
        assert!(std::fs::read(&stored).unwrap() == image, "{ending}");
        // The same again, whichever of its checksums is given.
        for more in [
            json!({}),
            json!({"checksum": sha256(&image)}),
            json!({"checksum": sha256(&packed)}),
        ] {
            let again = world.run(with(json!({"src": src}), more)).await;
            assert_changed(&again, false);
            assert_eq!(again["checksum"], sha256(&image));
        }
        // Without a record the node compares the image.
        std::fs::remove_dir_all(world.path("home/.cache/nixos-proxmox/isos")).unwrap();
        assert_changed(&world.run(json!({"src": src})).await, false);
        // Another image in a file of the same name.
        let other = world.file(
            &format!("{ending}.iso.{ending}"),
            &pack(&image_of_same_size()),
        );
        assert_failed(
            &world.run(json!({"src": other})).await,
            "exists",
            &["differs"],
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_compression_of_the_same_image_is_the_same() {
    let world = World::new();
    let web = Web::start().await;
    let image = image(7);
    let plain = world.file("plain.iso", &image);
    let other = image_of_same_size();
    let name = |more| with(json!({"name": "x.iso"}), more);
    assert_changed(&world.run(name(json!({"src": plain}))).await, true);
    let uploads = world.count("POST", "/upload");
    for (ending, pack) in ALL {
        let packed = pack(&image);
        let src = world.file(&format!("a.iso.{ending}"), &packed);
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
                json!({"url": url, "checksum": sha256(&packed), "cache_dir": world.path("cache")}),
            ),
            packed_with(json!({"url": hidden, "checksum": sha256(&packed)})),
            packed_with(json!({"url": hidden, "checksum": sha512(&packed), "force": true})),
        ] {
            // What it learned of one file must not decide the next case.
            for check in [true, false] {
                let task = with(name(task.clone()), json!({"_ansible_check_mode": check}));
                let result = world.run(task.clone()).await;
                assert_changed(&result, false);
                assert_eq!(result["checksum"], sha256(&image), "{task}: {result}");
            }
            world.forget_all_but(&sha256(&image));
        }
        // Without a record the node compares what is in it.
        for task in [
            json!({"src": src}),
            packed_with(json!({"url": url, "checksum": sha256(&packed)})),
            packed_with(json!({"url": hidden, "checksum": sha256(&packed)})),
        ] {
            std::fs::remove_dir_all(world.path("home/.cache/nixos-proxmox/isos")).unwrap();
            assert_changed(&world.run(name(task)).await, false);
        }
        // What is in it differs.
        let packed = pack(&other);
        let src = world.file(&format!("b.iso.{ending}"), &packed);
        let hidden = web.put(&format!("/other/{ending}"), Page::new(packed.clone()));
        for task in [
            json!({"src": src}),
            packed_with(json!({"url": hidden, "checksum": sha256(&packed)})),
        ] {
            let differs = format!("{} instead of {}", sha256(&image), sha256(&other));
            let result = world.run(name(task)).await;
            assert_failed(&result, "exists", &["content differs", &differs]);
        }
    }
    assert_eq!(world.count("POST", "/upload"), uploads);
    // What differs replaces it, and is known then.
    let packed = xz(&other);
    let src = world.file("b.iso.xz", &packed);
    let task = name(json!({"src": src, "force": true}));
    assert_changed(&world.run(task.clone()).await, true);
    assert!(std::fs::read(world.stored("x.iso")).unwrap() == other);
    assert_changed(&world.run(task).await, false);
    assert_failed(
        &world.run(name(json!({"src": plain}))).await,
        "exists",
        &["content differs"],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_does_not_show_the_compression_is_idempotent() {
    let world = World::new();
    let web = Web::start().await;
    let packed = gzip(&image(8));
    let url = web.put("/download", Page::new(packed.clone()));
    let task = packed_with(json!({"url": url, "name": "x.iso"}));
    assert_changed(&world.run(task.clone()).await, true);
    assert_changed(&world.run(task.clone()).await, false);
    // The size of the compressed file says nothing of what is there.
    std::fs::remove_dir_all(world.path("home/.cache/nixos-proxmox/isos")).unwrap();
    let unknown = world.run(task.clone()).await;
    assert_failed(&unknown, "exists", &["its size is not known beforehand"]);
    web.put("/download", Page::new(gzip(&image(9))));
    let task = with(task, json!({"checksum": sha256(&packed)}));
    assert_failed(&world.run(task).await, "checksum_mismatch", &["expected"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_address_with_the_same_checksum_is_the_same() {
    let world = World::new();
    let web = Web::start().await;
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
        assert_changed(&world.run(task(&first, sum.clone())).await, true);
        for more in [
            sum.clone(),
            with(sum.clone(), json!({"force": true})),
            json!({"checksum": sha512(&image)}),
        ] {
            assert_changed(&world.run(task(&second, more)).await, false);
        }
        assert_failed(
            &world.run(task(&second, json!({}))).await,
            "exists",
            &["it was transferred from"],
        );
    }
}

fn image_of_same_size() -> Vec<u8> {
    image(2)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_checksum_may_be_of_the_file_or_of_the_image() {
    let world = World::new();
    let web = Web::start().await;
    let image = image(3);
    for (ending, pack) in ALL {
        let packed = pack(&image);
        let name = format!("{ending}.iso.{ending}");
        let url = web.put(&format!("/{name}"), Page::new(packed.clone()));
        for (at, checksum) in [sha256(&packed), sha256(&image)].into_iter().enumerate() {
            let name = format!("{ending}-{at}.iso");
            let cache = world.path("cache");
            for (more, kind) in [
                (json!({"url": url}), "stream"),
                (json!({"url": url, "cache_dir": cache}), "cache"),
            ] {
                let name = format!("{kind}-{name}");
                let task = packed_with(with(more, json!({"name": name, "checksum": checksum})));
                let result = world.run(task.clone()).await;
                assert_changed(&result, true);
                assert!(std::fs::read(world.stored(&name)).unwrap() == image);
                assert_changed(&world.run(task).await, false);
            }
        }
        let wrong = world
            .run(packed_with(
                json!({"url": url, "name": "w.iso", "checksum": sha256(b"x")}),
            ))
            .await;
        assert_failed(
            &wrong,
            "checksum_mismatch",
            &[&name, "is not what its checksum says"],
        );
        assert!(!world.stored("w.iso").exists());
        // By the node it is refused before anything is downloaded.
        let node = world.run(json!({"url": url})).await;
        assert_failed(
            &node,
            "not_an_image",
            &["compressed", "download_by: controller"],
        );
        let hidden = web.put("/plain.iso", Page::new(packed));
        let node = world.run(json!({"url": hidden})).await;
        assert_failed(
            &node,
            "not_an_image",
            &["compressed", "download_by: controller"],
        );
    }
    assert_eq!(world.count("POST", "/download-url"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_frames_and_padding_are_unpacked_too() {
    let world = World::new();
    let image = image(4);
    let (first, second) = image.split_at(300_000);
    for (ending, pack) in ALL {
        let mut packed = [pack(first), pack(second)].concat();
        if ending == "zst" {
            // A frame to be skipped.
            let skipped = [&b"\x50\x2a\x4d\x18\x03\0\0\0"[..], b"abc"].concat();
            packed = [skipped, packed].concat();
        }
        let src = world.file(&format!("{ending}.iso.{ending}"), &packed);
        assert_changed(&world.run(json!({"src": src})).await, true);
        assert!(std::fs::read(world.stored(&format!("{ending}.iso"))).unwrap() == image);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_damaged_or_hides_something_else_is_refused() {
    let world = World::new();
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
            let src = world.file(&format!("{name}.iso.{ending}"), &bytes);
            let result = world.run(json!({"src": src})).await;
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
            assert!(!world.stored(&format!("{name}.iso")).exists());
        }
    }
    assert_eq!(world.count("POST", "/upload"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_image_is_refused_before_it_is_written() {
    let world = World::new();
    let web = Web::start().await;
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
        let src = world.file(name, &bytes);
        let url = web.put(&format!("/{name}"), Page::new(bytes.clone()));
        for task in [
            json!({"src": src}),
            json!({"url": url}),
            json!({"url": url, "download_by": "controller"}),
            json!({"url": url, "download_by": "controller", "cache_dir": world.path("cache")}),
            // Its checksum proves that it is what was published, not that it is an image.
            json!({"src": src, "checksum": sha256(&bytes)}),
        ] {
            for check in [true, false] {
                if check && task.get("cache_dir").is_some() {
                    continue;
                }
                let mut task = task.clone();
                task["_ansible_check_mode"] = json!(check);
                let result = world.run(task).await;
                assert_failed(&result, "not_an_image", &[text, "content_check: false"]);
            }
        }
        assert!(!world.stored(name).exists());
    }
    assert_eq!(
        world.count("POST", "/upload") + world.count("POST", "/download-url"),
        0
    );
    // The way out takes it as it is, compressed or not.
    let packed = gzip(&image(6));
    let src = world.file("any.iso", &packed);
    let result = world.run(json!({"src": src, "content_check": false})).await;
    assert_changed(&result, true);
    assert!(std::fs::read(world.stored("any.iso")).unwrap() == packed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_image_survives_a_download_that_cannot_be_had() {
    let world = World::new();
    let web = Web::start().await;
    let old = iso(b"old");
    assert_changed(
        &world.run(json!({"src": world.file("x.iso", &old)})).await,
        true,
    );
    let page = web.put("/page.iso", Page::new("<html>"));
    for url in [
        format!("{}/gone.iso", web.base),
        page,
        "http://127.0.0.9:1/x.iso".into(),
    ] {
        for by in ["node", "controller"] {
            let task = json!({"url": url, "name": "x.iso", "download_by": by, "force": true});
            let result = world.run(task).await;
            assert_eq!(result["failed"], true, "{result}");
            assert!(
                std::fs::read(world.stored("x.iso")).unwrap() == old,
                "{result}"
            );
        }
    }
}
