//! Where an ISO can come from: addresses, GitHub releases, files of checksums; through the node or the controller.

mod common;

use std::time::Duration;

use common::*;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_flows_through_the_controller_into_the_upload() {
    let world = World::new();
    let body = content(3_000_001);
    let url = serve(&body).await;
    let task = controller(json!({"url": url, "checksum": sha256(&body)}));
    let first = world.run(task.clone()).await;
    assert_changed(&first, true);
    assert_eq!(first["checksum"], sha256(&body));
    assert!(std::fs::read(world.stored("nixos.iso")).unwrap() == body);
    assert_changed(&world.run(task).await, false);
    assert_eq!(world.count("POST", "/upload"), 1);
    assert_eq!(world.count("POST", "/download-url"), 0);
    let wrong = world
        .run(controller(
            json!({"url": url, "name": "y.iso", "checksum": sha256(b"other")}),
        ))
        .await;
    assert_failed(
        &wrong,
        "checksum_mismatch",
        &["nixos.iso", "is not what its checksum says"],
    );
    assert!(!world.stored("y.iso").exists());
    let gone = world
        .run(controller(json!({"url": url.replace("nixos", "gone")})))
        .await;
    assert_failed(&gone, "download", &["gone.iso answered 404"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_checksum_the_node_compares_what_arrived() {
    let world = World::new();
    let body = content(500_000);
    let url = serve(&body).await;
    let first = world.run(controller(json!({"url": url}))).await;
    assert_changed(&first, true);
    // It was hashed as it passed, and PVE compared that with the file.
    assert_eq!(first["checksum"], sha256(&body));
    assert_eq!(world.count("POST", "/download-url"), 1);
    let warnings = first["warnings"].to_string();
    assert!(
        warnings.contains("is not encrypted, and no checksum is given")
            && !warnings.contains("compared"),
        "{first}"
    );
    assert_changed(&world.run(controller(json!({"url": url}))).await, false);
    // Who may not ask the node for that is told what the content rests on.
    world.grant(
        "pveum role add Uploads --privs \"Datastore.AllocateTemplate Datastore.Audit\"\n\
         pveum acl modify /storage/local --roles Uploads",
    );
    let mut less = world.with_token("empty");
    less["url"] = json!(url);
    less["name"] = json!("other.iso");
    let second = world.run(controller(less)).await;
    assert_changed(&second, true);
    assert!(
        second["warnings"]
            .to_string()
            .contains("compared by its size only"),
        "{second}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sources_that_break_off_or_hide_their_size_leave_nothing() {
    let world = World::new();
    let web = Web::start().await;
    let body = content(2_000_000);
    let cut = web.put(
        "/cut.iso",
        Page {
            cut: Some(1_000_000),
            ..Page::new(body.clone())
        },
    );
    let result = world.run(controller(json!({"url": cut}))).await;
    assert_failed(&result, "download", &["cut.iso", "its source failed"]);
    assert!(!world.stored("cut.iso").exists());
    let unsized_url = web.put(
        "/unsized.iso",
        Page {
            unsized_body: true,
            ..Page::new(body.clone())
        },
    );
    let result = world.run(controller(json!({"url": unsized_url}))).await;
    assert_failed(
        &result,
        "download",
        &["does not tell its size", "cache_dir"],
    );
    // Downloaded first, it can be uploaded.
    let cache = world.path("cache");
    let result = world
        .run(controller(json!({"url": unsized_url, "cache_dir": cache})))
        .await;
    assert_changed(&result, true);
    assert!(std::fs::read(world.stored("unsized.iso")).unwrap() == body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_stalls_for_longer_than_pve_waits_is_bridged() {
    let world = World::new();
    let web = Web::start().await;
    let body = content(400_000);
    let url = web.put(
        "/slow.iso",
        Page {
            stall: Duration::from_secs(7),
            ..Page::new(body.clone())
        },
    );
    let result = world
        .run(controller(json!({"url": url, "checksum": sha256(&body)})))
        .await;
    assert_changed(&result, true);
    assert!(std::fs::read(world.stored("slow.iso")).unwrap() == body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_downloaded_is_kept_only_where_asked() {
    let world = World::new();
    let web = Web::start().await;
    let body = content(100_000);
    let url = web.put("/x.iso", Page::new(body.clone()));
    let cache = world.path("cache");
    let task = |name: &str| {
        controller(json!({"url": url, "name": name, "checksum": sha256(&body), "cache_dir": cache}))
    };
    assert_changed(&world.run(task("a.iso")).await, true);
    assert_changed(&world.run(task("b.iso")).await, true);
    assert_eq!(web.asked("/x.iso").len(), 1);
    assert!(std::fs::read(world.stored("b.iso")).unwrap() == body);
    // What was damaged on the disk is fetched anew.
    let folder = std::fs::read_dir(&cache)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    std::fs::write(folder.join("x.iso"), b"rubbish").unwrap();
    assert_changed(&world.run(task("c.iso")).await, true);
    assert_eq!(web.asked("/x.iso").len(), 2);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checksums_are_looked_up_in_files_of_checksums() {
    let world = World::new();
    let web = Web::start().await;
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
    let first = world.run(task(&gnu)).await;
    assert_changed(&first, true);
    assert_eq!(first["checksum"], sha256(&body));
    assert_changed(&world.run(task(&bsd)).await, false);
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
        assert_changed(&world.run(task(&sums)).await, false);
    }
    assert_failed(
        &world.run(task(&without)).await,
        "no_checksum",
        &["no checksum of nixos-1.iso (2 of other files"],
    );
    // For a local file too.
    let src = world.iso("nixos-1.iso", b"something else");
    let wrong = world
        .run(json!({"src": src, "name": "z.iso", "checksum": format!("sha256:{gnu}")}))
        .await;
    assert_failed(&wrong, "checksum_mismatch", &["nixos-1.iso"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn assets_of_releases() {
    let world = World::new();
    let web = Web::start().await;
    let body = content(200_000);
    release(&web, &body, Some(&sha256(&body)), "latest");
    release(&web, &body, Some(&sha256(&body)), "tags/v2");
    let wanted = |more: Value| {
        let all = json!({"repo": "me/iso", "asset": "*-x86_64.iso", "api_url": format!("{}/api", web.base)});
        with(all, more)
    };
    let task = json!({"github_release": wanted(json!({}))});
    let first = world.run(task.clone()).await;
    assert_changed(&first, true);
    assert_eq!(first["volid"], "local:iso/nixos-2-x86_64.iso");
    assert_eq!(first["checksum"], sha256(&body));
    assert_eq!(world.count("POST", "/download-url"), 1);
    assert_changed(&world.run(task).await, false);
    let tagged = world.run(json!({"github_release": wanted(json!({"tag": "v2"})), "download_by": "controller", "name": "t.iso"})).await;
    assert_changed(&tagged, true);
    assert!(
        web.asked("/")
            .iter()
            .all(|head| !head.to_lowercase().contains("authorization"))
    );

    let many = world
        .run(json!({"github_release": wanted(json!({"asset": "*.iso"}))}))
        .await;
    assert_failed(&many, "ambiguous", &["nixos-2-aarch64.iso", "v2"]);
    let none = world
        .run(json!({"github_release": wanted(json!({"asset": "*.img"}))}))
        .await;
    assert_failed(&none, "not_found", &["*.img", "nixos-2-x86_64.iso"]);
    let absent = world
        .run(json!({"github_release": wanted(json!({"tag": "v9"}))}))
        .await;
    assert_failed(
        &absent,
        "download",
        &["release v9 of me/iso", "404", "GITHUB_TOKEN"],
    );
    let repo = world
        .run(json!({"github_release": wanted(json!({"repo": "../x/y"}))}))
        .await;
    assert_failed(&repo, "invalid_option", &["OWNER/NAME"]);
    let differs = world
        .run(json!({"github_release": wanted(json!({})), "checksum": sha256(b"x")}))
        .await;
    assert_failed(&differs, "checksum_mismatch", &["the release says"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_is_not_what_its_digest_says_is_refused() {
    let world = World::new();
    let web = Web::start().await;
    release(
        &web,
        &iso(b"tampered with"),
        Some(&sha256(b"what was built")),
        "latest",
    );
    for by in ["node", "controller"] {
        let result = world.run(json!({"github_release": {"repo": "me/iso", "asset": "*x86_64*", "api_url": format!("{}/api", web.base)}, "download_by": by})).await;
        assert_failed(&result, "checksum_mismatch", &["nixos-2-x86_64.iso"]);
        assert!(!world.stored("nixos-2-x86_64.iso").exists());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_goes_to_the_api_and_nowhere_else() {
    let world = World::new();
    let (web, elsewhere) = (Web::start().await, Web::start().await);
    let body = content(50_000);
    release(&web, &body, None, "latest");
    // As GitHub does it: the API sends the holder of the token to a store on another host.
    let stored = elsewhere.put("/store/blob", Page::new(body.clone()));
    web.put(
        "/api/repos/me/iso/releases/assets/nixos-2-x86_64.iso",
        Page::redirect(&format!("{stored}?sig=abc")),
    );
    let options = json!({"github_release": {"repo": "me/iso", "asset": "*x86_64*", "api_url": format!("{}/api", web.base)}, "download_by": "controller"});
    let result = world
        .run_in("home", &[("GITHUB_TOKEN", "ghp_very_secret")], options)
        .await;
    assert_changed(&result, true);
    assert!(!result.to_string().contains("ghp_very_secret"), "{result}");
    assert!(std::fs::read(world.stored("nixos-2-x86_64.iso")).unwrap() == body);
    let api = web.asked("/api");
    assert!(
        api.len() >= 2
            && api.iter().all(|head| head
                .to_lowercase()
                .contains("authorization: bearer ghp_very_secret"))
    );
    assert_eq!(web.asked("/public").len(), 0);
    let heads = elsewhere.asked("/store/blob");
    assert_eq!(heads.len(), 1);
    assert!(!heads[0].contains("ghp_very_secret"), "{heads:?}");

    let clear = json!({"github_release": {"repo": "me/iso", "api_url": "http://github.example/api/v3", "token": "ghp_very_secret"}});
    assert_failed(
        &world.run(clear).await,
        "invalid_option",
        &["not sent to http://github.example/api/v3 in clear text"],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_in_an_address_does_not_follow_a_redirect() {
    let world = World::new();
    let (web, elsewhere) = (Web::start().await, Web::start().await);
    let stored = elsewhere.put("/blob", Page::new(content(1000)));
    let url = web
        .put("/x.iso", Page::redirect(&stored))
        .replace("http://", "http://me:pass-word@");
    let result = world.run(controller(json!({"url": url}))).await;
    assert_changed(&result, true);
    assert!(
        web.asked("/x.iso")[0]
            .to_lowercase()
            .contains("authorization: basic")
    );
    assert!(
        !elsewhere.asked("/blob")[0]
            .to_lowercase()
            .contains("authorization")
    );
    assert!(!result.to_string().contains("pass-word"), "{result}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_from_tls_to_clear_text_is_not_followed() {
    let world = World::new();
    let (secure, clear) = (Web::start_tls().await, Web::start().await);
    let authority = world.file("ca.pem", secure.certificate.as_ref().unwrap().as_bytes());
    let env = [
        ("SSL_CERT_FILE", authority.to_str().unwrap()),
        ("GITHUB_TOKEN", "ghp_very_secret"),
    ];
    let body = content(10_000);
    let there = clear.put("/x.iso", Page::new(body.clone()));
    let leads = secure.put("/x.iso", Page::redirect(&format!("{there}?sig=secret")));
    let cache = world.path("cache");
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
        json!({"src": world.file("x.iso", &body), "checksum": format!("sha256:{leads}")}),
        json!({"github_release": asset}),
    ] {
        let result = world.run_in("home", &env, controller(options)).await;
        assert_failed(&result, "download", &["it redirects from https to http"]);
        let text = result.to_string();
        assert!(
            !text.contains("pass-word")
                && !text.contains("ghp_very_secret")
                && !text.contains("sig=")
        );
    }
    assert_eq!(clear.asked("/").len(), 0);
    assert_eq!(world.count("POST", "/upload"), 0);
    // Without the redirect it is fetched from there.
    secure.put("/x.iso", Page::new(body.clone()));
    let result = world
        .run_in("home", &env, controller(json!({"url": leads})))
        .await;
    assert_changed(&result, true);
}

/// GitHub answers sixty questions an hour, and lets an answer be used for a minute.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_hosts_ask_about_a_release_once() {
    let world = World::new();
    let web = Web::start().await;
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
    let runs = futures_util::future::join_all((0..6).map(|_| world.run(task.clone()))).await;
    let changed = runs.iter().filter(|result| {
        assert!(result.get("failed").is_none(), "{result}");
        result["changed"] == true
    });
    assert_eq!(changed.count(), 1);
    assert_eq!(web.asked("/api").len(), 1);
    // Another token may see another release.
    let env = [("GITHUB_TOKEN", "ghp_very_secret")];
    assert_changed(&world.run_in("home", &env, task.clone()).await, false);
    assert_eq!(web.asked("/api").len(), 2);
    for file in std::fs::read_dir(world.path("home/.cache/nixos-proxmox/answers")).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        assert!(!text.contains("ghp_very_secret"));
    }
    // Not for longer than its server allows.
    answer("0");
    for asked in [3, 4] {
        assert_changed(&world.run_in("other", &[], task.clone()).await, false);
        assert_eq!(web.asked("/api").len(), asked);
    }
}

/// A server of images that never comes to an end: over when the task's time is, nothing left behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_drips_ends_with_the_time() {
    let world = World::new();
    let web = Web::start().await;
    let drip = |body: Vec<u8>| Page {
        drip: Duration::from_millis(100),
        ..Page::new(body)
    };
    let slow = web.put("/slow.iso", drip(content(100_000)));
    let sums = web.put("/SHA256SUMS", drip(vec![b'x'; 100_000]));
    let local = world.file("local.iso", &content(1000));
    for task in [
        controller(json!({"url": slow})),
        controller(json!({"url": slow, "cache_dir": world.path("cache")})),
        json!({"src": local, "checksum": format!("sha256:{sums}")}),
    ] {
        let mut task = task;
        task["timeout"] = json!(4);
        let failed = world.run(task).await;
        assert_failed(&failed, "timeout", &["(timeout 4 s)"]);
    }
    assert!(!world.stored("slow.iso").exists() && !world.stored("local.iso").exists());
}

/// What a server says of its bytes' number is not believed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_whose_length_lies_leaves_nothing() {
    let world = World::new();
    let web = Web::start().await;
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
        let failed = world.run(task).await;
        assert_eq!(failed["failed"], true, "{failed}");
        assert!(failed["msg"].as_str().unwrap().len() < 1000, "{failed}");
    }
    assert!(!world.stored("more.iso").exists() && !world.stored("less.iso").exists());
}
