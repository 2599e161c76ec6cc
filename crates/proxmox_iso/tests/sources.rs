//! Where an ISO can come from: addresses, GitHub releases, files of checksums; through the node or the controller.

mod common;

use std::time::Duration;

use common::*;
use insta::assert_snapshot;
use serde_json::{Value, json};

/// An ISO image; one of at least 40,000 bytes has just so many.
fn content(size: usize) -> Vec<u8> {
    let bytes: Vec<u8> = (0..size as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    iso(&bytes)
}

fn controller(more: Value) -> Value {
    with(json!({"download_by": "controller"}), more)
}

/// A release `v2` of `me/iso` with an image and its digest, and what is at its addresses.
fn release(web: &Web, body: &[u8], digest: Option<&str>, tag: &str) {
    let asset = |name: &str| {
        json!({
            "name": name, "size": body.len(), "digest": digest, "state": "uploaded",
            "url": format!("{}/api/repos/me/iso/releases/assets/{name}", web.base),
            "browser_download_url": format!("{}/public/{name}", web.base),
        })
    };
    let text = json!({"tag_name": "v2", "assets": [asset("nixos-2-x86_64.iso"), asset("nixos-2-aarch64.iso")]});
    web.put(
        &format!("/api/repos/me/iso/releases/{tag}"),
        Page::new(text.to_string()),
    );
    web.put("/public/nixos-2-x86_64.iso", Page::new(body));
    web.put(
        "/api/repos/me/iso/releases/assets/nixos-2-x86_64.iso",
        Page::new(body),
    );
}

#[test]
fn a_download_flows_through_the_controller_into_the_upload() {
    let lab = lab();
    let body = content(3_000_001);
    let url = serve(&body);
    let task = controller(json!({"url": url, "checksum": sha256(&body)}));
    let first = lab.changed(task.clone());
    assert_eq!(first["checksum"], sha256(&body));
    assert!(std::fs::read(lab.stored("nixos.iso")).unwrap() == body);
    lab.unchanged(task);
    assert_eq!(lab.count("POST", "/upload"), 1);
    assert_eq!(lab.count("POST", "/download-url"), 0);
    assert_snapshot!(failure(&lab.fails(controller(
            json!({"url": url, "name": "y.iso", "checksum": sha256(b"other")}),
        ))), @"
    checksum_mismatch: checksum mismatch: http://127.0.0.1:[port]/nixos.iso is not what its checksum says: checksum mismatch: got '7bb9a8ef0485a68b417fac87d80bff9fbbd85e7994432a68757558c030389307' != expect 'd9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa'
      nothing was replaced; fetch or build the image again, or set checksum: ALGORITHM:HEX to that of the image that you want
    ");
    assert!(!lab.stored("y.iso").exists());
    assert_snapshot!(failure(&lab.fails(controller(json!({"url": url.replace("nixos", "gone")})))), @"download: http://127.0.0.1:[port]/gone.iso answered 404 Not Found");
}

#[test]
fn without_a_checksum_the_node_compares_what_arrived() {
    let lab = lab();
    let body = content(500_000);
    let url = serve(&body);
    let first = lab.changed(controller(json!({"url": url})));
    // It was hashed as it passed, and PVE compared that with the file.
    assert_eq!(first["checksum"], sha256(&body));
    assert_eq!(lab.count("POST", "/download-url"), 1);
    let warnings = first["warnings"].to_string();
    assert!(
        warnings.contains("is not encrypted, and no checksum is given")
            && !warnings.contains("compared"),
        "{first}"
    );
    lab.unchanged(controller(json!({"url": url})));
    // Who may not ask the node for that is told what the content rests on.
    lab.grant(
        "pveum role add Uploads --privs \"Datastore.AllocateTemplate Datastore.Audit\"\n\
         pveum acl modify /storage/local --roles Uploads",
    );
    let mut less = lab.endpoint["empty"].clone();
    less["url"] = json!(url);
    less["name"] = json!("other.iso");
    let second = lab.changed(controller(less));
    assert_snapshot!(shown(&second, "warnings"), @r#"warnings: ["url: http://127.0.0.1:[port]/nixos.iso is not encrypted, and no checksum is given: whoever is on its way can replace the image; set checksum: ALGORITHM:HEX, or use https","no checksum of http://127.0.0.1:[port]/nixos.iso was known beforehand: what arrived was compared by its size only, as provisioner@pve!empty may not have the node compare it (Sys.AccessNetwork); set checksum: ALGORITHM:HEX"]"#);
}

#[test]
fn sources_that_break_off_or_hide_their_size_leave_nothing() {
    let lab = lab();
    let web = Web::start();
    let body = content(2_000_000);
    let cut = web.put(
        "/cut.iso",
        Page {
            cut: Some(1_000_000),
            ..Page::new(body.clone())
        },
    );
    assert_snapshot!(failure(&lab.fails(controller(json!({"url": cut})))), @"download: cannot upload http://127.0.0.1:[port]/cut.iso as local:iso/cut.iso: POST /nodes/pve/storage/local/upload (cut.iso): its source failed: end of file before message length reached ([some] of 2000000 bytes were sent)");
    assert!(!lab.stored("cut.iso").exists());
    let unsized_url = web.put(
        "/unsized.iso",
        Page {
            unsized_body: true,
            ..Page::new(body.clone())
        },
    );
    // The host may note only now that the upload before began.
    assert_snapshot!(failure(&lab.fails(controller(json!({"url": unsized_url})))), @"
    download: http://127.0.0.1:[port]/unsized.iso does not tell its size (Content-Length), without which nothing can be uploaded
      set cache_dir: DIRECTORY, so that it is downloaded first, or download_by: node
    ");
    // Downloaded first, it can be uploaded.
    let cache = lab.path("cache");
    lab.changed(controller(json!({"url": unsized_url, "cache_dir": cache})));
    assert!(std::fs::read(lab.stored("unsized.iso")).unwrap() == body);
}

#[test]
fn a_source_that_stalls_for_longer_than_pve_waits_is_bridged() {
    let lab = lab();
    let web = Web::start();
    let body = content(400_000);
    let url = web.put(
        "/slow.iso",
        Page {
            stall: Duration::from_secs(7),
            ..Page::new(body.clone())
        },
    );
    lab.changed(controller(json!({"url": url, "checksum": sha256(&body)})));
    assert!(std::fs::read(lab.stored("slow.iso")).unwrap() == body);
}

#[test]
fn what_was_downloaded_is_kept_only_where_asked() {
    let lab = lab();
    let web = Web::start();
    let body = content(100_000);
    let url = web.put("/x.iso", Page::new(body.clone()));
    let cache = lab.path("cache");
    let task = |name: &str| {
        controller(json!({"url": url, "name": name, "checksum": sha256(&body), "cache_dir": cache}))
    };
    lab.changed(task("a.iso"));
    lab.changed(task("b.iso"));
    assert_eq!(web.asked("/x.iso").len(), 1);
    assert!(std::fs::read(lab.stored("b.iso")).unwrap() == body);
    // What was damaged on the disk is fetched anew.
    let folder = std::fs::read_dir(&cache)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    std::fs::write(folder.join("x.iso"), b"rubbish").unwrap();
    lab.changed(task("c.iso"));
    assert_eq!(web.asked("/x.iso").len(), 2);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
}

#[test]
fn checksums_are_looked_up_in_files_of_checksums() {
    let lab = lab();
    let web = Web::start();
    let body = content(10_000);
    let hex = pve_client::sha256_bytes(&body);
    let url = web.put("/iso/nixos-1.iso", Page::new(body.clone()));
    let gnu = web.put(
        "/gnu",
        Page::new(format!(
            "{}  other.iso\n{hex} *nixos-1.iso\n",
            "0".repeat(64)
        )),
    );
    let bsd = web.put("/bsd", Page::new(format!("SHA256 (nixos-1.iso) = {hex}\n")));
    let without = web.put(
        "/without",
        Page::new(format!("{hex}  nixos-2.iso\n{hex}  nixos-3.iso\n")),
    );
    let task = |sums: &str| json!({"url": url, "checksum": format!("sha256:{sums}")});
    let first = lab.changed(task(&gnu));
    assert_eq!(first["checksum"], sha256(&body));
    lab.unchanged(task(&bsd));
    for (path, text) in [
        (
            "/release.md",
            format!(
                "## Images\n\n| File | SHA-256 |\n|---|---|\n| nixos-1.iso | `{hex}` |\n| other.iso | `{}` |\n",
                "0".repeat(64)
            ),
        ),
        (
            "/releases/latest",
            json!({"tag_name": "1", "assets": [
                {"name": "other.iso", "digest": format!("sha256:{}", "0".repeat(64))},
                {"name": "nixos-1.iso", "digest": sha256(&body)},
            ]})
            .to_string(),
        ),
        (
            "/images.yaml",
            format!(
                "- file: other.iso\n  sha256: '{}'\n- file: nixos-1.iso\n  sha256: {hex}\n",
                "0".repeat(64)
            ),
        ),
    ] {
        let sums = web.put(path, Page::new(text));
        lab.unchanged(task(&sums));
    }
    assert_snapshot!(failure(&lab.fails(task(&without))), @"
    no_checksum: checksum: http://127.0.0.1:[port]/without cannot be used: it has no checksum of nixos-1.iso (2 of other files: nixos-2.iso, nixos-3.iso)
      give a file that names the image, as sha256sum or sha256 write it, or the checksum itself
    ");
    // For a local file too.
    let src = iso_file(&lab, "nixos-1.iso", b"something else");
    assert_snapshot!(failure(&lab.fails(json!({"src": src, "name": "z.iso", "checksum": format!("sha256:{gnu}")}))), @"
    checksum_mismatch: checksum mismatch: [dir]/nixos-1.iso is not what its checksum says: checksum mismatch: got '0cb6791b93a44333c8ed3b6aca2a7ac3f2eb685a7c39c2da3dabf74ce5fd45c3' != expect '1186e2149b4cc1cf87b0186434f00b2d8b3d7d7d9bd044562b7f6e828cd9d414'
      nothing was replaced; fetch or build the image again, or set checksum: ALGORITHM:HEX to that of the image that you want
    ");
}

#[test]
fn assets_of_releases() {
    let lab = lab();
    let web = Web::start();
    let body = content(200_000);
    release(&web, &body, Some(&sha256(&body)), "latest");
    release(&web, &body, Some(&sha256(&body)), "tags/v2");
    let wanted = |more: Value| {
        let all = json!({"repo": "me/iso", "asset": "*-x86_64.iso", "api_url": format!("{}/api", web.base)});
        with(all, more)
    };
    let task = json!({"github_release": wanted(json!({}))});
    let first = lab.changed(task.clone());
    assert_eq!(first["volid"], "local:iso/nixos-2-x86_64.iso");
    assert_eq!(first["checksum"], sha256(&body));
    assert_eq!(lab.count("POST", "/download-url"), 1);
    lab.unchanged(task);
    lab.changed(json!({"github_release": wanted(json!({"tag": "v2"})), "download_by": "controller", "name": "t.iso"}));
    assert!(
        web.asked("/")
            .iter()
            .all(|head| !head.to_lowercase().contains("authorization"))
    );

    assert_snapshot!(lab.refuses(json!({"github_release": wanted(json!({"asset": "*.iso"}))})), @"
    ambiguous: release latest of me/iso (v2) has several assets like *.iso: nixos-2-x86_64.iso, nixos-2-aarch64.iso
      make github_release.asset fit one of them
    ");
    assert_snapshot!(lab.refuses(json!({"github_release": wanted(json!({"asset": "*.img"}))})), @"not_found: release latest of me/iso (v2) has no asset like *.img; it has: nixos-2-x86_64.iso, nixos-2-aarch64.iso");
    assert_snapshot!(lab.refuses(json!({"github_release": wanted(json!({"tag": "v9"}))})), @"
    download: cannot look up release v9 of me/iso: http://127.0.0.1:[port]/api/repos/me/iso/releases/tags/v9 answered 404 Not Found
      there is no such release; drafts and pre-releases are never the latest, and a private repository shows itself only with a token (github_release.token or GITHUB_TOKEN)
    ");
    assert_snapshot!(lab.refuses(json!({"github_release": wanted(json!({"repo": "../x/y"}))})), @"invalid_option: github_release.repo: expected OWNER/NAME (got '../x/y')");
    assert_snapshot!(lab.refuses(json!({"github_release": wanted(json!({})), "checksum": sha256(b"x")})), @"
    checksum_mismatch: checksum mismatch: the release says that nixos-2-x86_64.iso has sha256:d867e6ae3a6588cfbebfc3fafd7a9872be37fe9402a54f4ac3dd6156de35c106, the task says sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881
      one of the two was tampered with, or is of another release
    ");
}

#[test]
fn a_release_that_is_not_what_its_digest_says_is_refused() {
    let lab = lab();
    let web = Web::start();
    release(
        &web,
        &iso(b"tampered with"),
        Some(&sha256(b"what was built")),
        "latest",
    );
    for by in ["node", "controller"] {
        let result = lab.run(json!({"github_release": {"repo": "me/iso", "asset": "*x86_64*", "api_url": format!("{}/api", web.base)}, "download_by": by}));
        assert_failed(&result, "checksum_mismatch", &["nixos-2-x86_64.iso"]);
        assert!(!lab.stored("nixos-2-x86_64.iso").exists());
    }
}

#[test]
fn a_token_goes_to_the_api_and_nowhere_else() {
    let lab = lab();
    let (web, store) = (Web::start(), Web::start());
    let body = content(50_000);
    release(&web, &body, None, "latest");
    // As GitHub does it: the API sends the holder of the token to a store on another host.
    let stored = store.put("/store/blob", Page::new(body.clone()));
    web.put(
        "/api/repos/me/iso/releases/assets/nixos-2-x86_64.iso",
        Page::redirect(&format!("{stored}?sig=abc")),
    );
    let options = json!({"github_release": {"repo": "me/iso", "asset": "*x86_64*", "api_url": format!("{}/api", web.base)}, "download_by": "controller"});
    let result = elsewhere(&lab, "", &[("GITHUB_TOKEN", "ghp_very_secret")], options);
    assert_changed(&result, true);
    assert!(!result.to_string().contains("ghp_very_secret"), "{result}");
    assert!(std::fs::read(lab.stored("nixos-2-x86_64.iso")).unwrap() == body);
    let api = web.asked("/api");
    assert!(
        api.len() >= 2
            && api.iter().all(|head| head
                .to_lowercase()
                .contains("authorization: bearer ghp_very_secret"))
    );
    assert_eq!(web.asked("/public").len(), 0);
    let heads = store.asked("/store/blob");
    assert_eq!(heads.len(), 1);
    assert!(!heads[0].contains("ghp_very_secret"), "{heads:?}");

    let clear = json!({"github_release": {"repo": "me/iso", "api_url": "http://github.example/api/v3", "token": "ghp_very_secret"}});
    assert_snapshot!(lab.refuses(clear), @"invalid_option: github_release.token: is not sent to http://github.example/api/v3 in clear text; use https in github_release.api_url");
}

#[test]
fn a_password_in_an_address_does_not_follow_a_redirect() {
    let lab = lab();
    let (web, store) = (Web::start(), Web::start());
    let stored = store.put("/blob", Page::new(content(1000)));
    let url = web
        .put("/x.iso", Page::redirect(&stored))
        .replace("http://", "http://me:pass-word@");
    let result = lab.changed(controller(json!({"url": url})));
    assert!(
        web.asked("/x.iso")[0]
            .to_lowercase()
            .contains("authorization: basic")
    );
    assert!(
        !store.asked("/blob")[0]
            .to_lowercase()
            .contains("authorization")
    );
    assert!(!result.to_string().contains("pass-word"), "{result}");
}

#[test]
fn a_redirect_from_tls_to_clear_text_is_not_followed() {
    let lab = lab();
    let (secure, clear) = (Web::start_tls(), Web::start());
    let authority = lab.file("ca.pem", secure.certificate.as_ref().unwrap().as_bytes());
    let env = [
        ("SSL_CERT_FILE", authority.to_str().unwrap()),
        ("GITHUB_TOKEN", "ghp_very_secret"),
    ];
    let body = content(10_000);
    let there = clear.put("/x.iso", Page::new(body.clone()));
    let leads = secure.put("/x.iso", Page::redirect(&format!("{there}?sig=secret")));
    let cache = lab.path("cache");
    let with_password = leads.replace("https://", "https://me:pass-word@");
    release(&secure, &body, None, "latest");
    secure.put(
        "/api/repos/me/iso/releases/assets/nixos-2-x86_64.iso",
        Page::redirect(&there),
    );
    let asset =
        json!({"repo": "me/iso", "asset": "*x86_64*", "api_url": format!("{}/api", secure.base)});
    for options in [
        json!({"url": leads}),
        json!({"url": with_password}),
        json!({"url": leads, "cache_dir": cache}),
        json!({"src": lab.file("x.iso", &body), "checksum": format!("sha256:{leads}")}),
        json!({"github_release": asset}),
    ] {
        let result = elsewhere(&lab, "", &env, controller(options));
        assert_failed(&result, "download", &["it redirects from https to http"]);
        let text = result.to_string();
        assert!(
            !text.contains("pass-word")
                && !text.contains("ghp_very_secret")
                && !text.contains("sig=")
        );
    }
    assert_eq!(clear.asked("/").len(), 0);
    assert_eq!(lab.count("POST", "/upload"), 0);
    // Without the redirect it is fetched from there.
    secure.put("/x.iso", Page::new(body.clone()));
    let result = elsewhere(&lab, "", &env, controller(json!({"url": leads})));
    assert_changed(&result, true);
}

/// GitHub answers sixty questions an hour, and lets an answer be used for a minute.
#[test]
fn many_hosts_ask_about_a_release_once() {
    let lab = lab();
    let web = Web::start();
    let body = content(100_000);
    release(&web, &body, Some(&sha256(&body)), "latest");
    let path = "/api/repos/me/iso/releases/latest";
    let answer = |age: &str| {
        let mut page = web.page(path);
        page.headers = vec![format!(
            "Cache-Control: private, max-age={age}, s-maxage=60"
        )];
        web.put(path, page);
    };
    answer("60");
    let task = json!({"github_release": {"repo": "me/iso", "asset": "*-x86_64.iso", "api_url": format!("{}/api", web.base)}});
    let runs = lab.many(6, 6, &task);
    let changed = runs.iter().filter(|result| result["changed"] == true);
    assert_eq!(changed.count(), 1);
    assert_eq!(web.asked("/api").len(), 1);
    // Another token may see another release.
    let env = [("GITHUB_TOKEN", "ghp_very_secret")];
    assert_changed(&elsewhere(&lab, "", &env, task.clone()), false);
    assert_eq!(web.asked("/api").len(), 2);
    for file in std::fs::read_dir(lab.path(".cache/nixos-proxmox/answers")).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        assert!(!text.contains("ghp_very_secret"));
    }
    // Not for longer than its server allows.
    answer("0");
    for asked in [3, 4] {
        assert_changed(&elsewhere(&lab, "other", &[], task.clone()), false);
        assert_eq!(web.asked("/api").len(), asked);
    }
}

/// A server of images that never comes to an end: over when the task's time is, nothing left behind.
#[test]
fn a_source_that_drips_ends_with_the_time() {
    let lab = lab();
    let web = Web::start();
    let drip = |body: Vec<u8>| Page {
        drip: Duration::from_millis(100),
        ..Page::new(body)
    };
    let slow = web.put("/slow.iso", drip(content(100_000)));
    let sums = web.put("/SHA256SUMS", drip(vec![b'x'; 100_000]));
    let local = lab.file("local.iso", content(1000));
    for task in [
        controller(json!({"url": slow})),
        controller(json!({"url": slow, "cache_dir": lab.path("cache")})),
        json!({"src": local, "checksum": format!("sha256:{sums}")}),
    ] {
        let mut task = task;
        task["timeout"] = json!(4);
        let failed = lab.run(task);
        assert_failed(&failed, "timeout", &["(timeout 4 s)"]);
    }
    assert!(!lab.stored("slow.iso").exists() && !lab.stored("local.iso").exists());
}

/// What a server says of its bytes' number is not believed.
#[test]
fn a_source_whose_length_lies_leaves_nothing() {
    let lab = lab();
    let web = Web::start();
    let body = content(300_000);
    let lies = |length: usize| Page {
        headers: vec![format!("Content-Length: {length}")],
        unsized_body: true,
        ..Page::new(body.clone())
    };
    let more = web.put("/more.iso", lies(300_001));
    let less = web.put("/less.iso", lies(299_999));
    for url in [more, less] {
        let task = controller(json!({"url": url, "checksum": sha256(&body)}));
        let failed = lab.run(task);
        assert_eq!(failed["failed"], true, "{failed}");
        assert!(failed["msg"].as_str().unwrap().len() < 1000, "{failed}");
    }
    assert!(!lab.stored("more.iso").exists() && !lab.stored("less.iso").exists());
}
