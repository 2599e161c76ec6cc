//! Arguments of any shape end in a result or one failure, without the secrets among them.

use crate::FailureKind;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::*;
use crate::{Documentation, Rule, Secret};

#[derive(Debug, JsonSchema, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Choice {
    On,
    Auto,
}

#[derive(Debug, JsonSchema, Deserialize)]
#[expect(dead_code, reason = "shown by Debug")]
struct Login {
    user: String,
    password: Option<Secret>,
}

#[derive(Debug, JsonSchema, Deserialize)]
#[serde(untagged)]
#[expect(dead_code, reason = "shown by Debug")]
enum Either {
    One(Login),
    Many(Vec<Login>),
}

/// One option of every kind, secret and not.
#[derive(Debug, JsonSchema, Deserialize)]
#[expect(dead_code, reason = "shown by Debug")]
struct Options {
    #[schemars(extend("x-ansible" = {"aliases": ["words"]}))]
    text: Option<String>,
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    path: Option<PathBuf>,
    number: Option<u16>,
    float: Option<f64>,
    flag: Option<bool>,
    choice: Option<Choice>,
    list: Option<Vec<i64>>,
    map: Option<BTreeMap<String, String>>,
    raw: Option<Value>,
    login: Option<Login>,
    logins: Option<Vec<Login>>,
    named: Option<BTreeMap<String, Login>>,
    either: Option<Either>,
    #[schemars(extend("x-ansible" = {"aliases": ["key"]}))]
    token: Option<Secret>,
    tokens: Option<Vec<Secret>>,
    token_map: Option<BTreeMap<String, Secret>>,
    #[schemars(extend("x-ansible" = {"no_log": true}))]
    pin: Option<u64>,
    #[schemars(extend("x-ansible" = {"no_log": true}))]
    mode: Option<Choice>,
    #[schemars(extend("x-ansible" = {"no_log": true}))]
    document: Option<Value>,
}

/// Names of options that hold no secret, and one that is unknown.
const OPEN: [&str; 12] = [
    "text", "words", "path", "number", "float", "flag", "choice", "list", "map", "raw", "login",
    "other",
];
/// Names of options that hold secrets as a whole, and one that is unknown.
const CLOSED: [&str; 8] = [
    "token",
    "key",
    "tokens",
    "token_map",
    "pin",
    "mode",
    "document",
    "tokn",
];
/// Names of options that hold logins.
const LOGINS: [&str; 3] = ["login", "logins", "named"];

struct Echo;

impl Module for Echo {
    const NAME: &'static str = "echo";
    type Options = Options;

    fn documentation() -> Documentation {
        Documentation::default()
    }

    fn rules() -> Vec<Rule> {
        vec![
            Rule::MutuallyExclusive(&["text", "path"]),
            Rule::RequiredTogether(&["list", "map"]),
        ]
    }

    async fn run(options: Options, task: Task) -> Result<Outcome, Failure> {
        let tokens = options.tokens.iter().flatten();
        let all = tokens.chain(&options.token).map(Secret::expose);
        let said = all.collect::<Vec<_>>().join("/");
        task.warn(format!("warned of {said}"));
        if options.flag == Some(true) {
            return Err(Failure::new(FailureKind::Refused, format!("{options:?}")).detail(said));
        }
        Ok(Outcome::changed(format!("{options:?}")).with("said", said))
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        r#"[a-z0-9,=:{}\["'$~ \\.e+_-]{0,20}"#.prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("user|[a-z]{0,3}|.{0,3}", inner, 0..4)
                .prop_map(|map| json!(map)),
        ]
    })
}

const SECRET: &str = "hunter2-";

/// A secret, in a value of any shape. Without `=`: what is before it in a text would be a key of a dict.
fn secret() -> impl Strategy<Value = Value> {
    let text = r#"[a-z,'" \\\n\t\x1bé€/-]{0,8}"#.prop_map(|rest| json!(format!("{SECRET}{rest}")));
    text.prop_recursive(2, 4, 2, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..3).prop_map(Value::from),
            inner.clone().prop_map(|value| json!({"a": value})),
            inner.prop_map(|value| json!(value.to_string())),
        ]
    })
}

/// A login, in the place of one or in a wrong one.
fn login() -> impl Strategy<Value = Value> {
    let login = (any::<Option<bool>>(), secret()).prop_map(|(user, password)| match user {
        Some(user) => json!({"user": user, "password": password}),
        None => json!({"password": password}),
    });
    login.prop_recursive(2, 4, 2, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..3).prop_map(Value::from),
            inner.clone().prop_map(|value| json!({"a": value})),
            inner.prop_map(|value| json!(value.to_string())),
        ]
    })
}

fn arguments() -> impl Strategy<Value = Map<String, Value>> {
    let open = prop::collection::vec((select(&OPEN[..]), value()), 0..4);
    let closed = prop::collection::vec((select(&CLOSED[..]), secret()), 0..3);
    let logins = prop::collection::vec((select(&LOGINS[..]), login()), 0..2);
    let flags = select(vec![
        ("_ansible_diff", json!(true)),
        ("_ansible_no_log", json!(true)),
        ("_ansible_ignore_unknown_opts", json!(true)),
        ("_ansible_verbosity", json!(-1)),
        ("_ansible_module_name", json!(["x"])),
    ]);
    let either = secret().prop_map(|password| {
        let login = json!({"user": "me", "password": password});
        ("either", json!([login.clone(), login]))
    });
    let either = prop::option::of(either);
    (open, closed, logins, either, flags).prop_map(|(open, closed, logins, either, flag)| {
        let all = open.into_iter().chain(closed).chain(logins);
        let all = all.chain(either).chain([flag]);
        all.map(|(name, value)| (name.to_owned(), value)).collect()
    })
}

/// The whole answer to these arguments.
fn answer(given: Map<String, Value>) -> String {
    let mut arguments = Arguments::of(given);
    let reply = Reply::new(Echo::NAME);
    let outcome = options::<Echo>(&mut arguments, &reply).and_then(|(options, _)| {
        let task = Task::new(&arguments, reply.secrets.clone());
        reply.task(task.clone());
        let (_sender, interrupted) = oneshot::channel();
        work::<Echo>(options, task, interrupted)
    });
    let succeeded = outcome.is_ok();
    let text = reply.text(outcome);
    let result: Value = serde_json::from_str(&text).unwrap();
    assert!(!text.contains('\n') && result["msg"].is_string(), "{text}");
    assert!(result["changed"].is_boolean(), "{text}");
    if succeeded {
        assert_eq!(result.get("failed"), None);
    } else {
        assert_eq!(result["failed"], true, "{text}");
        assert!(result["error"]["kind"].is_string(), "{text}");
    }
    text
}

proptest! {
    #[test]
    fn any_arguments_end_in_one_answer_without_secrets(given in arguments()) {
        let text = answer(given);
        prop_assert!(!text.contains("hunter2"), "{}", text);
    }

    #[test]
    fn no_secret_hides_that_a_task_failed(
        secret in select(vec!["failed", "changed", "msg", "error", "kind", "true", "*"]),
        flag in any::<bool>(),
    ) {
        answer(json!({"token": secret, "flag": flag}).as_object().unwrap().clone());
    }
}

#[test]
fn a_login_in_a_wrong_place_is_not_shown() {
    let login = json!({"user": "me", "password": "hunter2"});
    for given in [
        json!({"login": [login]}),
        json!({"logins": login}),
        json!({"named": [login]}),
        json!({"named": {"a": [login]}}),
        json!({"either": {"a": login}}),
        json!({"tokens": "hunter2,hunter2b"}),
        json!({"token": {"a": "hunter2'\"b"}}),
    ] {
        let text = answer(given.as_object().unwrap().clone());
        assert!(!text.contains("hunter2"), "{text}");
    }
}

/// What is kept of a long secret is found again without comparing each line with each.
#[test]
fn many_secrets_are_masked() {
    let lines: Vec<String> = (0..5000).map(|n| format!("secret line {n}")).collect();
    let given = json!({"pin": lines, "mode": lines.join("\n"), "text": "a secret line 7 b"});
    let text = answer(given.as_object().unwrap().clone());
    assert!(!text.contains("secret line"));
}
