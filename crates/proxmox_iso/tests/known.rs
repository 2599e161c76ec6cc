//! What counts as the same ISO, and addresses as services hand them out.

mod common;

use ansible_module::FailureKind;
use common::*;
use proxmox_iso::Options;
use serde_json::{Value, json};

fn url_task(url: &str, by: &str) -> Value {
    json!({"url": url, "name": "x.iso", "download_by": by})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_of_another_address_is_refused_or_replaced() {
    for by in ["node", "controller"] {
        let world = World::new();
        let web = Web::start().await;
        let (one, two) = (iso(&[1; 1000]), iso(&[2; 1000]));
        let a = web.put("/a/x.iso", Page::new(one.clone()));
        let b = web.put("/b/x.iso", Page::new(two.clone()));
        assert_changed(&world.run(url_task(&a, by)).await, true);
        assert_changed(&world.run(url_task(&a, by)).await, false);
        for check in [true, false] {
            let mut task = url_task(&b, by);
            task["_ansible_check_mode"] = json!(check);
            let refused = world.run(task).await;
            assert_failed(
                &refused,
                "exists",
                &["/a/x.iso, not from", "/b/x.iso", "force: true"],
            );
        }
        // With a checksum the address does not matter.
        let mut mirror = url_task(&b, by);
        mirror["checksum"] = json!(sha256(&one));
        assert_changed(&world.run(mirror).await, false);
        let mut forced = url_task(&b, by);
        forced["force"] = json!(true);
        let would = world
            .run(with(forced.clone(), json!({"_ansible_check_mode": true})))
            .await;
        assert!(
            would["msg"].as_str().unwrap().starts_with("would "),
            "{would}"
        );
        let replaced = world.run(forced.clone()).await;
        assert_changed(&replaced, true);
        assert!(std::fs::read(world.stored("x.iso")).unwrap() == two);
        assert_changed(&world.run(forced).await, false);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_address_gives_now_is_asked() {
    for by in ["node", "controller"] {
        let world = World::new();
        let web = Web::start().await;
        let page = |fill: u8, time: &str| Page {
            headers: vec![format!("Last-Modified: {time}")],
            ..Page::new(iso(&vec![fill; 1000]))
        };
        web.put("/rel/nixos-1.iso", page(1, "Mon"));
        let url = web.put("/latest.iso", Page::redirect("/rel/nixos-1.iso"));
        assert_changed(&world.run(url_task(&url, by)).await, true);
        assert_changed(&world.run(url_task(&url, by)).await, false);
        // Rebuilt in place, with the same size.
        web.put("/rel/nixos-1.iso", page(2, "Tue"));
        let refused = world.run(url_task(&url, by)).await;
        assert_failed(&refused, "exists", &["has changed since", "Mon", "Tue"]);
        web.put("/rel/nixos-1.iso", page(1, "Mon"));
        // A newer release behind the same address.
        web.put("/rel/nixos-2.iso", page(2, "Mon"));
        web.put("/latest.iso", Page::redirect("/rel/nixos-2.iso"));
        let refused = world.run(url_task(&url, by)).await;
        assert_failed(&refused, "exists", &["nixos-1.iso", "nixos-2.iso"]);
        // What came from there is kept when it does not answer, with a warning.
        web.put(
            "/latest.iso",
            Page {
                status: "500 Oops".into(),
                ..Page::default()
            },
        );
        let kept = world.run(url_task(&url, by)).await;
        assert_changed(&kept, false);
        assert!(
            kept["warnings"].to_string().contains("could not be asked"),
            "{kept}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_does_not_answer_is_never_taken_for_what_is_there() {
    let world = World::new();
    let web = Web::start().await;
    assert_changed(
        &world.run(json!({"src": world.iso("x.iso", b"old")})).await,
        true,
    );
    for home in ["home", "other"] {
        // Neither what this controller uploaded nor what it knows nothing of.
        for by in ["node", "controller"] {
            for url in [
                format!("{}/404", web.base),
                "http://127.0.0.9:1/x.iso".into(),
            ] {
                let refused = world.run_in(home, &[], url_task(&url, by)).await;
                assert_failed(&refused, "exists", &["local:iso/x.iso exists already"]);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_again_is_compared() {
    let world = World::new();
    let web = Web::start().await;
    let (one, two) = (iso(&[1; 1000]), iso(&[2; 1000]));
    let src = world.file("x.iso", &one);
    let rewrite = async |bytes: &[u8]| {
        // Its time counts in seconds.
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
        std::fs::write(world.stored("x.iso"), bytes).unwrap();
    };
    assert_changed(&world.run(json!({"src": src})).await, true);
    rewrite(&one).await;
    assert_changed(&world.run(json!({"src": src})).await, false);
    rewrite(&two).await;
    for task in [
        json!({"src": src}),
        json!({"src": src, "checksum": sha256(&one)}),
    ] {
        assert_failed(
            &world.run(task.clone()).await,
            "exists",
            &["content differs"],
        );
        // Another controller, which knows nothing, has the node compare it too.
        assert_failed(
            &world.run_in("other", &[], task).await,
            "exists",
            &["content differs"],
        );
    }
    // Without a checksum of the source nothing can be compared.
    let url = web.put("/x.iso", Page::new(two.clone()));
    let refused = world.run(json!({"url": url})).await;
    assert_failed(&refused, "exists", &["written again", "checksum"]);
    let other = world.run_in("other", &[], json!({"url": url})).await;
    assert_changed(&other, false);
    assert!(
        other["warnings"]
            .to_string()
            .contains("by its name and size"),
        "{other}"
    );
    // Who may not ask the node is told so, and refused where it matters.
    world.grant(
        "pveum role add Uploads --privs \"Datastore.AllocateTemplate Datastore.Audit\"\n\
         pveum acl modify /storage/local --roles Uploads",
    );
    let less = |more: Value| with(world.with_token("empty"), more);
    let refused = world.run(less(json!({"src": src}))).await;
    assert_failed(&refused, "exists", &["written again"]);
    let kept = world.run_in("third", &[], less(json!({"src": src}))).await;
    assert_changed(&kept, false);
    assert!(
        kept["warnings"].to_string().contains("Sys.AccessNetwork"),
        "{kept}"
    );
}

/// Two clusters behind one name, as through tunnels, share nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_belong_to_a_host_and_port() {
    let (one, two) = (World::new(), World::new());
    let image = iso(b"image");
    let src = one.file("x.iso", &image);
    let home = one.path("home");
    let home = home.to_str().unwrap();
    assert_changed(&one.run(json!({"src": src})).await, true);
    assert_changed(&two.run_in(home, &[], json!({"src": src})).await, true);
    assert_changed(&one.run(json!({"src": src})).await, false);
    let records = std::fs::read_dir(one.path("home/.cache/nixos-proxmox/isos")).unwrap();
    assert_eq!(records.count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_found_wherever_a_service_puts_them() {
    let world = World::new();
    let web = Web::start().await;
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
            let result = world
                .run(
                    json!({"url": format!("{}{path}", web.base), "download_by": by, "force": true}),
                )
                .await;
            assert_eq!(
                result["volid"],
                format!("local:iso/{name}"),
                "{path}: {result}"
            );
            assert!(result.get("failed").is_none(), "{result}");
        }
    }
    let none = world.run(json!({"url": format!("{}/get", web.base)})).await;
    assert_failed(
        &none,
        "invalid_option",
        &["does not end in .iso", "set name"],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_in_addresses_are_in_no_output_and_no_record() {
    let world = World::new();
    let web = Web::start().await;
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
                let task = with(json!({"url": url, "name": format!("{by}-{at}.iso"), "download_by": by, "progress_path": world.path("progress")}), more);
                let result = world.run(task).await.to_string();
                for secret in secrets {
                    assert!(!result.contains(secret), "{url}: {result}");
                }
            }
        }
    }
    let records = std::fs::read_dir(world.path("home/.cache/nixos-proxmox/isos")).unwrap();
    let mut kept: Vec<_> = records.map(|file| file.unwrap().path()).collect();
    kept.push(world.path("progress"));
    for file in kept {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(
            !secrets.iter().any(|secret| text.contains(secret)),
            "{text}"
        );
    }
}

/// A signed address is another each time, and so is the user in one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_credentials_are_the_same_source() {
    let world = World::new();
    let web = Web::start().await;
    let url = web.put("/x.iso", Page::new(iso(b"image")));
    let run = async |url: String| {
        world
            .run(json!({"url": url, "download_by": "controller"}))
            .await
    };
    assert_changed(
        &run(format!("{url}?X-Amz-Date=1&X-Amz-Signature=abcdef01")).await,
        true,
    );
    assert_changed(
        &run(format!("{url}?X-Amz-Date=2&X-Amz-Signature=abcdef02")).await,
        false,
    );
    assert_changed(
        &run(url.replace("http://", "http://me:pass-word@")).await,
        false,
    );
    assert_failed(
        &run(format!("{url}?version=2")).await,
        "exists",
        &["with other parameters"],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checksums_as_they_are_published() {
    let world = World::new();
    let web = Web::start().await;
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
            let result = world.run(task).await;
            assert_changed(&result, true);
            assert_eq!(result["checksum"], sha256(&image));
        }
    }
    // A single checksum of another file is compared, and then named.
    let sums = web.put("/sums", Page::new(format!("{zero}  other.iso\n")));
    let task = json!({"url": latest, "checksum": format!("sha256:{sums}"), "name": "w.iso", "download_by": "controller"});
    assert_failed(
        &world.run(task).await,
        "checksum_mismatch",
        &["is of other.iso"],
    );
    let page = web.put("/sums", Page::new("<html>404"));
    let task = json!({"url": latest, "checksum": format!("sha256:{page}"), "name": "w.iso"});
    assert_failed(&world.run(task).await, "no_checksum", &["an HTML page"]);
}

/// What other modules call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_is_resolved_without_a_write() {
    let world = World::new();
    let web = Web::start().await;
    let image = iso(b"image");
    let hex = pve_client::sha256_bytes(&image);
    let sums = web.put("/sums", Page::new(format!("{hex}  real.iso\n")));
    let url = web.put("/real.iso", Page::new(image.clone()));
    let resolve = async |more: Value| {
        let mut all = world.connection(None);
        all["node"] = json!("pve");
        all["storage"] = json!("local");
        let options = Options::from_json(with(all, more)).unwrap();
        proxmox_iso::resolve(&options, &ansible_module::Task::default()).await
    };
    let found =
        resolve(json!({"url": format!("{url}?download=1"), "checksum": format!("sha256:{sums}")}))
            .await
            .unwrap();
    assert_eq!(
        serde_json::to_value(found).unwrap(),
        json!({"name": "real.iso", "volid": "local:iso/real.iso", "checksum": sha256(&image), "size": image.len()})
    );
    let src = world.file("local.iso", &image);
    let found = resolve(json!({"src": src})).await.unwrap();
    assert_eq!(
        (found.name.as_str(), found.checksum, found.size),
        ("local.iso", None, Some(image.len() as u64))
    );
    assert_eq!(
        resolve(json!({"src": "/does/not/exist.iso"}))
            .await
            .unwrap_err()
            .kind,
        FailureKind::File
    );
    let requests = world.requests();
    assert!(
        requests.iter().all(|request| request.starts_with("GET")),
        "{requests:?}"
    );
}
