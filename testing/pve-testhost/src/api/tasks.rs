//! Task lists, states and logs.

use serde_json::{Value, json};

use super::{Context, Reply};
use crate::error::ApiError;
use crate::host::Host;
use crate::task::Record;

pub fn handle(method: &str, template: &str, context: &Context) -> Result<Reply, ApiError> {
    match (method, template) {
        ("GET", "/cluster/tasks") => Ok(Reply::Data(cluster(context))),
        ("GET", "/nodes/{node}/tasks") => Ok(list(context)),
        ("GET", "/nodes/{node}/tasks/{upid}") => {
            Ok(Reply::Data(json!([{"name": "log"}, {"name": "status"}])))
        }
        ("GET", "/nodes/{node}/tasks/{upid}/status") => {
            let record = find(context)?.ok_or_else(|| ApiError::param("upid", "no such task"))?;
            Ok(Reply::Data(record.status_json(&context.host.node)))
        }
        ("GET", "/nodes/{node}/tasks/{upid}/log") => log(context),
        ("DELETE", "/nodes/{node}/tasks/{upid}") => {
            find(context)?;
            context.host.tasks.cancel(context.need("upid")?);
            Ok(Reply::Data(Value::Null))
        }
        _ => Err(ApiError::not_implemented(method, template)),
    }
}

/// Own tasks are always readable; others need Sys.Audit.
fn find(context: &Context) -> Result<Option<Record>, ApiError> {
    let upid = context.need("upid")?;
    if !upid.starts_with("UPID:") || upid.split(':').count() != 9 {
        return Err(ApiError::param(
            "upid",
            format!("unable to parse worker upid '{upid}'"),
        ));
    }
    let record = context.host.tasks.get(upid);
    let own = record
        .as_ref()
        .is_some_and(|record| record.user == context.who.user);
    if !own {
        context.host.access.check(
            &context.who,
            &format!("/nodes/{}", context.host.node),
            &["Sys.Audit"],
        )?;
    }
    Ok(record)
}

fn visible(context: &Context, host: &Host) -> Vec<Record> {
    let all = context.may(&format!("/nodes/{}", host.node), &["Sys.Audit"]);
    let mut list = host.tasks.list();
    list.retain(|record| all || record.user == context.who.user);
    list
}

/// The latest tasks of all nodes.
fn cluster(context: &Context) -> Value {
    let mut found = Vec::new();
    for host in context.host.nodes() {
        let records = visible(context, &host).into_iter();
        found.extend(records.map(|record| (record.starttime, record.cluster_json(&host.node))));
    }
    found.sort_by_key(|(start, _)| std::cmp::Reverse(*start));
    found.into_iter().take(25).map(|(_, value)| value).collect()
}

fn list(context: &Context) -> Reply {
    let source = context.get("source").unwrap_or("archive");
    let mut list = visible(context, &context.host);
    list.retain(|record| {
        let running = record.status.is_none();
        (match source {
            "active" => running,
            "all" => true,
            _ => !running,
        }) && context.get("vmid").is_none_or(|vmid| record.id == vmid)
            && context
                .get("typefilter")
                .is_none_or(|kind| record.kind == kind)
            && context
                .get("userfilter")
                .is_none_or(|user| record.user.contains(user))
            && context
                .number("since")
                .is_none_or(|since| record.starttime >= since)
            && context
                .number("until")
                .is_none_or(|until| record.starttime <= until)
            && context
                .get("statusfilter")
                .is_none_or(|types| crate::formats::list(types).contains(&record.status_type()))
            && (!context.flag("errors") || (!running && !record.succeeded()))
    });
    let total = list.len();
    let start = usize::try_from(context.number("start").unwrap_or(0)).unwrap_or(usize::MAX);
    let limit = usize::try_from(context.number("limit").unwrap_or(50)).unwrap_or(usize::MAX);
    let page: Vec<Value> = list
        .iter()
        .skip(start)
        .take(limit)
        .map(|record| record.list_json(&context.host.node))
        .collect();
    Reply::With(json!(page), "total", json!(total))
}

fn log(context: &Context) -> Result<Reply, ApiError> {
    let mut lines = match find(context)? {
        Some(record) => record.log,
        None => vec!["unable to open file - No such file or directory".to_owned()],
    };
    if context.flag("download") {
        let name = format!("task-{}.log", context.need("upid")?);
        return Ok(Reply::Text(
            name,
            lines.iter().map(|line| format!("{line}\n")).collect(),
        ));
    }
    if lines.is_empty() {
        lines.push("no content".into());
    }
    let start = usize::try_from(context.number("start").unwrap_or(0)).unwrap_or(usize::MAX);
    let limit = match context.number("limit").unwrap_or(50) {
        0 => usize::MAX,
        limit => usize::try_from(limit).unwrap_or(usize::MAX),
    };
    let page: Vec<Value> = lines
        .iter()
        .enumerate()
        .skip(start)
        .take(limit)
        .map(|(n, text)| json!({"n": n + 1, "t": text}))
        .collect();
    Ok(Reply::With(json!(page), "total", json!(lines.len())))
}
