//! Texts and answers of any kind: read or refused, in time, and never in more words than a person reads.

mod common;

use common::{Server, deadline, ok};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use pve_client::property::{PropertyString, format_size, parse_size};
use pve_client::{Client, Error, Params, Upid, Volid};
use serde_json::{Value, json};

fn config() -> Config {
    Config {
        max_shrink_iters: 100,
        ..Config::default()
    }
}

/// Texts near a property string, and of any other kind.
fn properties() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "([ a-c=,:/.-]|file|size|model|=|,){0,12}",
        "(file|volume|a| a)=[ a=]{0,3}(,[a-c]{0,2}=?[ a-c=]{0,3}){0,4}",
    ]
}

/// Whatever a server may put into its answers.
fn answer() -> impl Strategy<Value = Value> {
    let keys = "vmid|name|status|tags|template|lock|node|storage|content|enabled|avail|volid|size|ctime|key|value|pending|delete|n|t|exitstatus|uptime|.{0,3}";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[0-9]{1,30}| *-?[0-9.e+]{0,8}|stopped|running|OK|WARNINGS: [0-9]{1,20}"
            .prop_map(Value::from),
        (1usize..100_000).prop_map(|n| json!("x".repeat(n))),
    ];
    leaf.prop_recursive(3, 24, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(keys, inner, 0..8).prop_map(|map| json!(map)),
        ]
    })
}

/// An object of the right kind with some of its values wrong.
fn nearly() -> impl Strategy<Value = Value> {
    (answer(), select(vec!["vmid", "node", "storage", "volid", "key", "status", "n", "t"])).prop_map(
        |(wrong, key)| {
            let mut right = json!({
                "vmid": 101, "node": "pve", "storage": "local", "volid": "local:iso/a.iso", "key": "name",
                "status": "stopped", "exitstatus": "OK", "n": 1, "t": "line",
            });
            right[key] = wrong;
            right
        },
    )
}

/// What goes wrong is said in a few words, however much the server said.
fn brief(result: Result<(), Error>) {
    if let Err(error) = result {
        let text = error.to_string();
        assert!(text.len() < 40_000, "{} bytes: {:.300}", text.len(), text);
        assert!(!text.contains("the-secret"));
    }
}

const UPID: &str = "UPID:pve:0000556F:000535B1:6B02F7CE:qmstart:101:root@pam!t:";

/// Every typed read.
async fn reads(client: &Client, upid: &Upid) {
    let limit = deadline();
    brief(client.nodes(&limit).await.map(|_| ()));
    brief(client.vms("pve", &limit).await.map(|_| ()));
    brief(client.vm_config("pve", 101, true, &limit).await.map(|_| ()));
    brief(client.vm_pending("pve", 101, &limit).await.map(|_| ()));
    brief(client.vm_status("pve", 101, &limit).await.map(|_| ()));
    brief(client.next_id(&limit).await.map(|_| ()));
    brief(client.storages("pve", None, &limit).await.map(|_| ()));
    brief(
        client
            .content("pve", "local", None, &limit)
            .await
            .map(|_| ()),
    );
    let volid = Volid::iso("local", "a.iso");
    brief(client.volume_path("pve", &volid, &limit).await.map(|_| ()));
    brief(client.privileges("/", &limit).await.map(|_| ()));
    brief(client.task_log(upid, 0, 0, &limit).await.map(|_| ()));
    let short = limit.shorter(std::time::Duration::from_millis(20));
    brief(client.task(upid, &short, |_| ()).await.map(|_| ()));
    let params = Params::new();
    let short = limit.shorter(std::time::Duration::from_millis(20));
    let task = client.post_task("/x", &params, &short, |_| ()).await;
    brief(task.map(|_| ()));
}

#[test]
fn any_answer_is_read_or_refused_briefly() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let server = runtime.block_on(Server::start([ok("null")]));
    let client = server.client();
    let upid: Upid = UPID.parse().unwrap();
    let data = prop_oneof![
        answer(),
        nearly(),
        prop::collection::vec(nearly(), 0..3).prop_map(Value::from)
    ];
    TestRunner::new(config())
        .run(&data, |data| {
            server.answer(ok(&data.to_string()));
            runtime.block_on(reads(&client, &upid));
            Ok(())
        })
        .unwrap();
}

#[tokio::test]
async fn a_refusal_of_many_parameters_is_brief() {
    let errors: serde_json::Map<String, Value> = (0..20_000)
        .map(|n| (format!("{n}{}", "k".repeat(100)), json!("e".repeat(100))))
        .collect();
    let body = json!({"message": "no", "errors": errors, "data": null}).to_string();
    let server = Server::start([common::json("400 Parameter verification failed.", &body)]).await;
    brief(server.client().nodes(&deadline()).await.map(|_| ()));
}

#[test]
fn a_text_of_many_parts_is_refused() {
    let text: Vec<String> = (0..100_000).map(|n| format!("k{n}=1")).collect();
    assert!(PropertyString::parse(&text.join(","), None).is_err());
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_property_string_that_is_read_is_written_the_same(
        text in properties(),
        default in select(vec![None, Some("file"), Some("a")]),
    ) {
        if let Ok(read) = PropertyString::parse(&text, default) {
            let written = read.to_string();
            let again = PropertyString::parse(&written, default);
            let again = again.map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert!(read.same(&again), "{:?} became {:?}", text, written);
            prop_assert_eq!(again.to_string(), written);
        }
    }

    #[test]
    fn identifiers_are_kept_as_they_are(
        text in prop_oneof![
            any::<String>(),
            "UPID:[a-z]{0,3}:[0-9A-F]{0,9}:[0-9A-F]{1,9}:[0-9A-F]{1,20}:[a-z]{0,3}:.{0,3}:[a-z@!]{0,5}:",
            "[a-z0-9._-]{0,4}:.{0,9}",
        ],
    ) {
        if let Ok(upid) = text.parse::<Upid>() {
            prop_assert_eq!(upid.to_string(), text.as_str());
        }
        if let Ok(volid) = text.parse::<Volid>() {
            prop_assert_eq!(volid.to_string(), text.as_str());
            prop_assert!(volid.name.ends_with(volid.file_name()));
        }
    }

    #[test]
    fn sizes_are_read_or_refused(text in prop_oneof![any::<String>(), "[0-9]{0,30}\\.?[0-9]{0,9}[KMGT]?"], bytes: u64) {
        if let Some(read) = parse_size(&text) {
            prop_assert_eq!(parse_size(&format_size(read)), Some(read));
        }
        prop_assert_eq!(parse_size(&format_size(bytes)), Some(bytes));
    }
}
