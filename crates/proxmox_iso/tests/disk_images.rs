//! Images of disks (`content: import`), as they arrive on the storage and as they are refused.

mod common;

use common::*;
use insta::assert_snapshot;
use module_lab::Lab;
use serde_json::{Value, json};

/// The least that has the header of a qcow2 image; its backing file's name, if it has one, is behind the header.
fn qcow2(backing: bool) -> Vec<u8> {
    let mut image = vec![0; 70_000];
    image[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    if backing {
        image[14] = 1;
    }
    image
}

fn disk(lab: &Lab, name: &str, content: Vec<u8>) -> Value {
    json!({"src": lab.file(name, content), "content": "import"})
}

#[test]
fn an_image_of_a_disk_becomes_present_and_absent() {
    let lab = lab();
    let options = disk(&lab, "nixos.qcow2", qcow2(false));
    let planned = lab.changed(with(options.clone(), json!({"_ansible_check_mode": true})));
    assert_eq!(planned["volid"], "local:import/nixos.qcow2");
    let made = lab.changed(options.clone());
    assert_eq!(made["volid"], "local:import/nixos.qcow2");
    lab.unchanged(options.clone());
    assert!(
        made["path"]
            .as_str()
            .unwrap()
            .ends_with("/import/nixos.qcow2"),
        "{made}"
    );
    // An ISO of the same stem is another file.
    lab.changed(json!({"src": iso_file(&lab, "nixos.iso", b"x")}));
    let absent = json!({"name": "nixos.*", "content": "import", "state": "absent"});
    assert_eq!(
        lab.changed(absent.clone())["deleted"],
        json!(["local:import/nixos.qcow2"])
    );
    lab.unchanged(absent);
    assert!(lab.stored("nixos.iso").exists());
}

#[test]
fn a_compressed_image_is_unpacked_on_the_way() {
    let lab = lab();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, &qcow2(false)).unwrap();
    let options = disk(&lab, "nixos.qcow2.gz", packed.finish().unwrap());
    let made = lab.changed(options.clone());
    assert_eq!(made["volid"], "local:import/nixos.qcow2");
    assert_eq!(made["size"], 70_000);
    lab.unchanged(options);
}

#[test]
fn what_is_not_such_an_image_is_refused_before_anything_is_sent() {
    let lab = lab();
    let cases = [
        disk(&lab, "a.qcow2", iso(b"x")),
        disk(&lab, "b.raw", qcow2(false)),
        disk(&lab, "c.qcow2", qcow2(true)),
        disk(&lab, "d.qcow2", b"<!DOCTYPE html>".to_vec()),
        disk(&lab, "e.iso", qcow2(false)),
        disk(&lab, "f.ova", qcow2(false)),
        json!({"src": lab.file("g.qcow2", qcow2(false)), "name": "g.iso"}),
        with(
            disk(&lab, "h.qcow2", qcow2(false)),
            json!({"storage": "noiso"}),
        ),
    ];
    assert_snapshot!(lab.refuses_each(&json!({}), cases), @"
    not_an_image: [dir]/a.qcow2 is not a qcow2 disk image: it is an ISO image
      give the image of a disk, or set content: iso; content_check: false takes the bytes as they are
    not_an_image: [dir]/b.raw is not a raw disk image: it is a qcow2 disk image
      give it a name that ends in the format of the image; content_check: false takes the bytes as they are
    not_an_image: [dir]/c.qcow2 is not a qcow2 disk image: it is a qcow2 disk image that needs a backing file, or that is cut short
      convert it: qemu-img convert -O qcow2 IMAGE NEW.qcow2, and give the new one; content_check: false takes the bytes as they are
    not_an_image: [dir]/d.qcow2 is not a qcow2 disk image: it is an HTML page
      look at the address in a browser: it may want a login, or no longer exist; content_check: false takes the bytes as they are
    invalid_option: name: the source is called 'e.iso', which does not end in .qcow2, .raw or .vmdk
      set name: NAME.qcow2 or NAME.raw, as the format of the disk image is
    invalid_option: name: the source is called 'f.ova', which does not end in .qcow2, .raw or .vmdk
      set name: NAME.qcow2 or NAME.raw, as the format of the disk image is
    not_an_image: [dir]/g.qcow2 is not an ISO 9660 or UDF image: it is a qcow2 disk image
      it is the image of a disk, which no CD-ROM drive boots from; use the installer's ISO; content_check: false takes the bytes as they are
    storage_unusable: storage noiso does not hold disk images (content type import) (its content types: snippets)
      storages of pve that can hold disk images (content type import): local
    ");
    assert_eq!(lab.count("POST", "/upload"), 0);
}
