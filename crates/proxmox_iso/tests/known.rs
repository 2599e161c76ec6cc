//! What counts as the same ISO, and addresses as services hand them out.

mod common;

use ansible_module::FailureKind;
use common::*;
use insta::assert_snapshot;
use proxmox_iso::Options;
use serde_json::{Value, json};

fn url_task(url: &str, by: &str) -> Value {
    json!({"url": url, "name": "x.iso", "download_by": by})
}

#[test]
fn an_image_of_another_address_is_refused_or_replaced() {
    for by in ["node", "controller"] {
        let lab = lab();
        let web = Web::start();
        let (one, two) = (iso(&[1; 1000]), iso(&[2; 1000]));
        let a = web.put("/a/x.iso", Page::new(one.clone()));
        let b = web.put("/b/x.iso", Page::new(two.clone()));
        lab.changed(url_task(&a, by));
        same(&lab, url_task(&a, by));
        for check in [true, false] {
            let mut task = url_task(&b, by);
            task["_ansible_check_mode"] = json!(check);
            let refused = lab.run(task);
            assert_failed(
                &refused,
                "exists",
                &["/a/x.iso, not from", "/b/x.iso", "force: true"],
            );
        }
        // With a checksum the address does not matter.
        let mut mirror = url_task(&b, by);
        mirror["checksum"] = json!(sha256(&one));
        same(&lab, mirror);
        let mut forced = url_task(&b, by);
        forced["force"] = json!(true);
        let would = lab.run(with(forced.clone(), json!({"_ansible_check_mode": true})));
        assert!(
            would["msg"].as_str().unwrap().starts_with("would "),
            "{would}"
        );
        lab.changed(forced.clone());
        assert!(std::fs::read(lab.stored("x.iso")).unwrap() == two);
        same(&lab, forced);
    }
}

#[test]
fn what_an_address_gives_now_is_asked() {
    for by in ["node", "controller"] {
        let lab = lab();
        let web = Web::start();
        let page = |fill: u8, time: &str| Page {
            headers: vec![format!("Last-Modified: {time}")],
            ..Page::new(iso(&vec![fill; 1000]))
        };
        web.put("/rel/nixos-1.iso", page(1, "Mon"));
        let url = web.put("/latest.iso", Page::redirect("/rel/nixos-1.iso"));
        lab.changed(url_task(&url, by));
        lab.unchanged(url_task(&url, by));
        // Rebuilt in place, with the same size.
        web.put("/rel/nixos-1.iso", page(2, "Tue"));
        let refused = lab.run(url_task(&url, by));
        assert_failed(&refused, "exists", &["has changed since", "Mon", "Tue"]);
        web.put("/rel/nixos-1.iso", page(1, "Mon"));
        // A newer release behind the same address.
        web.put("/rel/nixos-2.iso", page(2, "Mon"));
        web.put("/latest.iso", Page::redirect("/rel/nixos-2.iso"));
        let refused = lab.run(url_task(&url, by));
        assert_failed(&refused, "exists", &["nixos-1.iso", "nixos-2.iso"]);
        // What came from there is kept when it does not answer, with a warning.
        web.put(
            "/latest.iso",
            Page {
                status: "500 Oops".into(),
                ..Page::default()
            },
        );
        let kept = lab.unchanged(url_task(&url, by));
        assert!(
            kept["warnings"].to_string().contains("could not be asked"),
            "{kept}"
        );
    }
}

#[test]
fn an_address_that_does_not_answer_is_never_taken_for_what_is_there() {
    let lab = lab();
    let web = Web::start();
    lab.changed(json!({"src": iso_file(&lab, "x.iso", b"old")}));
    for home in ["", "other"] {
        // Neither what this controller uploaded nor what it knows nothing of.
        for by in ["node", "controller"] {
            for url in [
                format!("{}/404", web.base),
                "http://127.0.0.9:1/x.iso".into(),
            ] {
                let refused = elsewhere(&lab, home, &[], url_task(&url, by));
                assert_failed(&refused, "exists", &["local:iso/x.iso exists already"]);
            }
        }
    }
}

#[test]
fn what_was_written_again_is_compared() {
    let lab = lab();
    let web = Web::start();
    let (one, two) = (iso(&[1; 1000]), iso(&[2; 1000]));
    let src = lab.file("x.iso", &one);
    let rewrite = |bytes: &[u8]| {
        // Its time counts in seconds.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        std::fs::write(lab.stored("x.iso"), bytes).unwrap();
    };
    lab.changed(json!({"src": src}));
    rewrite(&one);
    same(&lab, json!({"src": src}));
    rewrite(&two);
    for task in [
        json!({"src": src}),
        json!({"src": src, "checksum": sha256(&one)}),
    ] {
        assert_failed(&lab.run(task.clone()), "exists", &["content differs"]);
        // Another controller, which knows nothing, has the node compare it too.
        assert_failed(
            &elsewhere(&lab, "other", &[], task),
            "exists",
            &["content differs"],
        );
    }
    // Without a checksum of the source nothing can be compared.
    let url = web.put("/x.iso", Page::new(two.clone()));
    assert_snapshot!(failure(&lab.fails(json!({"url": url}))), @"
    exists: local:iso/x.iso exists already: it was written again since this controller transferred it, so that its content is not known
      set force: true to replace it, name: OTHER.iso to keep both, or checksum: ALGORITHM:HEX to have its content compared
    ");
    let other = elsewhere(&lab, "other", &[], json!({"url": url}));
    assert_changed(&other, false);
    assert_snapshot!(shown(&other, "warnings"), @r#"warnings: ["url: http://127.0.0.1:[port]/x.iso is not encrypted, and no checksum is given: whoever is on its way can replace the image; set checksum: ALGORITHM:HEX, or use https","local:iso/x.iso was taken for what http://127.0.0.1:[port]/x.iso gives by its name and size; its content was not compared"]"#);
    // Who may not ask the node is told so, and refused where it matters.
    lab.grant(
        "pveum role add Uploads --privs \"Datastore.AllocateTemplate Datastore.Audit\"\n\
         pveum acl modify /storage/local --roles Uploads",
    );
    let less = |more: Value| with(lab.endpoint["empty"].clone(), more);
    assert_snapshot!(failure(&lab.fails(less(json!({"src": src})))), @"
    exists: local:iso/x.iso exists already: it was written again since this controller transferred it, so that its content is not known
      set force: true to replace it, name: OTHER.iso to keep both, or checksum: ALGORITHM:HEX to have its content compared
    ");
    let kept = elsewhere(&lab, "third", &[], less(json!({"src": src})));
    assert_changed(&kept, false);
    assert_snapshot!(shown(&kept, "warnings"), @r#"warnings: ["local:iso/x.iso was taken for the local file by its name and size; its content was not compared, as provisioner@pve!empty may not have node pve do it (Sys.AccessNetwork)"]"#);
}

/// Two clusters behind one name, as through tunnels, share nothing.
#[test]
fn records_belong_to_a_host_and_port() {
    let (one, two) = (lab(), lab());
    let image = iso(b"image");
    let src = one.file("x.iso", &image);
    one.changed(json!({"src": src}));
    let home = one.path("");
    let of_two = elsewhere(&two, home.to_str().unwrap(), &[], json!({"src": src}));
    assert_changed(&of_two, true);
    one.unchanged(json!({"src": src}));
    let records = std::fs::read_dir(one.path(".cache/nixos-proxmox/isos")).unwrap();
    assert_eq!(records.count(), 2);
}

#[test]
fn names_are_found_wherever_a_service_puts_them() {
    let lab = lab();
    let web = Web::start();
    let image = iso(b"image");
    let page = |headers: &[&str]| Page {
        headers: headers.iter().map(ToString::to_string).collect(),
        ..Page::new(image.clone())
    };
    web.put("/real.iso", page(&[]));
    web.put(
        "/share/s/AbC/download",
        page(&["Content-Disposition: attachment; filename=\"real-name.iso\""]),
    );
    web.put("/projects/sf.iso/download", page(&[]));
    web.put("/get", page(&[]));
    web.put("/short", Page::redirect("/files/redirected.iso?viasf=1"));
    web.put("/files/redirected.iso", page(&[]));
    web.put("/na%20me.iso", page(&[]));
    for by in ["node", "controller"] {
        for (path, name) in [
            ("/real.iso?download=1", "real.iso"),
            ("/share/s/AbC/download", "real-name.iso"),
            ("/projects/sf.iso/download", "sf.iso"),
            ("/get?file=iso%2Fquery.iso", "query.iso"),
            (
                "/get?response-content-disposition=attachment%3B%20filename%3D%22s3.iso%22&X-Amz-Signature=0123abcd",
                "s3.iso",
            ),
            ("/short", "redirected.iso"),
            ("/na%20me.iso", "na_me.iso"),
        ] {
            let result = lab.run(
                json!({"url": format!("{}{path}", web.base), "download_by": by, "force": true}),
            );
            assert_eq!(
                result["volid"],
                format!("local:iso/{name}"),
                "{path}: {result}"
            );
            assert!(result.get("failed").is_none(), "{result}");
        }
    }
    assert_snapshot!(lab.refuses(json!({"url": format!("{}/get", web.base)})), @"
    invalid_option: name: the source is called 'get', which does not end in .iso or .img
      set name: NAME.iso, if it is an ISO image
    ");
}

#[test]
fn secrets_in_addresses_are_in_no_output_and_no_record() {
    let lab = lab();
    let web = Web::start();
    web.put("/x.iso", Page::new(iso(b"image")));
    web.put("/sums", Page::new("no sums"));
    let host = web.base.strip_prefix("http://").unwrap().to_string();
    let secrets = [
        "pass-word-1",
        "tok3n0123456789",
        "0a1b2c3d4e5f60718293",
        "a+b/c0=",
        "a%2Bb%2Fc0%3D",
    ];
    for by in ["node", "controller"] {
        for (at, url) in [
            format!("http://me:pass-word-1@{host}/x.iso"),
            format!("http://tok3n0123456789@{host}/x.iso"),
            format!("http://{host}/x.iso?X-Amz-Credential=tok3n0123456789&X-Amz-Signature=0a1b2c3d4e5f60718293"),
            format!("http://{host}/x.iso?sv=2024&sig=a%2Bb%2Fc0%3D"),
            format!("http://{host}/404.iso?private_token=tok3n0123456789"),
            format!("http://me:pass-word-1@{host}:99999/x.iso?token=tok3n0123456789"),
            format!("ftp://me:pass-word-1@{host}/x.iso?token=tok3n0123456789"),
        ]
        .into_iter()
        .enumerate()
        {
            for more in [json!({}), json!({"checksum": format!("sha256:{}", url.replace("x.iso", "sums"))})] {
                let task = with(json!({"url": url, "name": format!("{by}-{at}.iso"), "download_by": by, "progress_path": lab.path("progress")}), more);
                let result = lab.run(task).to_string();
                for secret in secrets {
                    assert!(!result.contains(secret), "{url}: {result}");
                }
            }
        }
    }
    let records = std::fs::read_dir(lab.path(".cache/nixos-proxmox/isos")).unwrap();
    let mut kept: Vec<_> = records.map(|file| file.unwrap().path()).collect();
    kept.push(lab.path("progress"));
    for file in kept {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(
            !secrets.iter().any(|secret| text.contains(secret)),
            "{text}"
        );
    }
}

/// A signed address is another each time, and so is the user in one.
#[test]
fn other_credentials_are_the_same_source() {
    let lab = lab();
    let web = Web::start();
    let url = web.put("/x.iso", Page::new(iso(b"image")));
    let run = |url: String| lab.run(json!({"url": url, "download_by": "controller"}));
    assert_changed(
        &run(format!("{url}?X-Amz-Date=1&X-Amz-Signature=abcdef01")),
        true,
    );
    assert_changed(
        &run(format!("{url}?X-Amz-Date=2&X-Amz-Signature=abcdef02")),
        false,
    );
    assert_changed(&run(url.replace("http://", "http://me:pass-word@")), false);
    assert_failed(
        &run(format!("{url}?version=2")),
        "exists",
        &["with other parameters"],
    );
}

#[test]
fn checksums_as_they_are_published() {
    let lab = lab();
    let web = Web::start();
    let image = iso(b"image");
    let hex = pve_client::sha256_bytes(&image);
    let real = "nixos-minimal-25.05.812345.abcdef012345-x86_64-linux.iso";
    web.put(&format!("/rel/{real}"), Page::new(image.clone()));
    let latest = web.put("/ch/latest.iso", Page::redirect(&format!("/rel/{real}")));
    let zero = "0".repeat(64);
    for (at, sums) in [
        format!("{hex}  {real}\n"),
        format!("{zero}  other.iso\n{hex}  {real}\n"),
        format!("{zero} *other.iso\n{hex} *latest.iso\n"),
        format!("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n# {real}: 1 bytes\nSHA256 ({real}) = {hex}\nSHA256 (other.iso) = {zero}\n-----BEGIN PGP SIGNATURE-----\n\nabc\n-----END PGP SIGNATURE-----\n"),
        hex.to_uppercase(),
    ]
    .into_iter()
    .enumerate()
    {
        let sums = web.put("/sums", Page::new(sums));
        for by in ["node", "controller"] {
            let task = json!({"url": latest, "checksum": format!("sha256:{sums}"), "name": format!("{by}-{at}.iso"), "download_by": by});
            let result = lab.changed(task);
            assert_eq!(result["checksum"], sha256(&image));
        }
    }
    // A single checksum of another file is compared, and then named.
    let sums = web.put("/sums", Page::new(format!("{zero}  other.iso\n")));
    let task = json!({"url": latest, "checksum": format!("sha256:{sums}"), "name": "w.iso", "download_by": "controller"});
    assert_snapshot!(failure(&lab.fails(task)), @"
    checksum_mismatch: checksum mismatch: http://127.0.0.1:[port]/ch/latest.iso is not what its checksum says: checksum mismatch: got '0496cd4adee91e541209a685b5e5d7c54fca3cd9133117ee90e767774340c13f' != expect '0000000000000000000000000000000000000000000000000000000000000000'
      nothing was replaced; the only checksum in the file of checksums is of other.iso: give one that names latest.iso
    ");
    let page = web.put("/sums", Page::new("<html>404"));
    let task = json!({"url": latest, "checksum": format!("sha256:{page}"), "name": "w.iso"});
    assert_snapshot!(failure(&lab.fails(task)), @"
    no_checksum: checksum: http://127.0.0.1:[port]/sums cannot be used: it is an HTML page
      give a file that names the image, as sha256sum or sha256 write it, or the checksum itself
    ");
}

/// What other modules call.
#[test]
fn a_source_is_resolved_without_a_write() {
    let lab = lab();
    let web = Web::start();
    let image = iso(b"image");
    let hex = pve_client::sha256_bytes(&image);
    let sums = web.put("/sums", Page::new(format!("{hex}  real.iso\n")));
    let url = web.put("/real.iso", Page::new(image.clone()));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let resolve = |more: Value| {
        let mut all = lab.connection(None);
        all["node"] = json!("pve");
        all["storage"] = json!("local");
        let options = Options::from_json(with(all, more)).unwrap();
        runtime.block_on(proxmox_iso::resolve(
            &options,
            &ansible_module::Task::default(),
        ))
    };
    let found =
        resolve(json!({"url": format!("{url}?download=1"), "checksum": format!("sha256:{sums}")}))
            .unwrap();
    assert_eq!(
        serde_json::to_value(found).unwrap(),
        json!({"name": "real.iso", "volid": "local:iso/real.iso", "checksum": sha256(&image), "size": image.len()})
    );
    let src = lab.file("local.iso", &image);
    let found = resolve(json!({"src": src})).unwrap();
    assert_eq!(
        (found.name.as_str(), found.checksum, found.size),
        ("local.iso", None, Some(image.len() as u64))
    );
    let missing = resolve(json!({"src": "/does/not/exist.iso"}));
    assert_eq!(missing.unwrap_err().kind, FailureKind::File);
    let requests = lab.requests();
    assert!(
        requests.iter().all(|request| request.starts_with("GET")),
        "{requests:?}"
    );
}
