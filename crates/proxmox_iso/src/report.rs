//! What the module answers.

use ansible_module::{Diff, Outcome};
use pve_client::{StorageContent, Volid};
use pve_module::Context;
use serde_json::{Map, Value, json};

use crate::checksum::Digest;
use crate::plan::Plan;
use crate::present::Look;
use crate::record::Record;
use crate::send::Arrived;

/// What answers are made of.
pub struct Report<'a> {
    pub context: Context<'a>,
    /// Node through which the storage is reached.
    pub node: &'a str,
    /// The volume.
    pub volid: &'a Volid,
    /// Whether the node downloads it.
    pub by_node: bool,
}

impl Report<'_> {
    /// It is there.
    pub async fn kept(&self, look: &Look) -> Outcome {
        let known = look
            .memory
            .valid()
            .and_then(|record| record.digests.first());
        let digest = known.or(look.desired.checksum.as_ref());
        self.there(look, digest).await
    }

    /// It is there, as a comparison has shown.
    pub async fn compared(&self, look: &Look, arrived: &Arrived) -> Outcome {
        self.there(look, arrived.digests.first()).await
    }

    async fn there(&self, look: &Look, digest: Option<&Digest>) -> Outcome {
        let size = look.found.as_ref().and_then(|volume| volume.size);
        let outcome = Outcome::unchanged(format!("{} is there", self.volid));
        let outcome = self.values(outcome, size, digest);
        self.with_path(outcome).await
    }

    /// What a check says would be done.
    pub fn would(&self, look: &Look) -> Outcome {
        let (size, digest) = (look.desired.size, look.desired.checksum.as_ref());
        if look.plan == Plan::Compare {
            let size = look.found.as_ref().and_then(|volume| volume.size);
            let text = format!(
                "{} is there; node {} would compare its content with the checksum",
                self.volid, self.node
            );
            return self.values(Outcome::unchanged(text), size, digest);
        }
        let verb = match self.by_node {
            true => "would download",
            false => "would upload",
        };
        let replacing = match look.found {
            Some(_) => ", replacing what is there",
            None => "",
        };
        let outcome = Outcome::changed(format!("{verb} {}{replacing}", self.volid));
        let outcome = outcome.diff(self.diff(look, size, digest));
        self.values(outcome, size, digest)
    }

    /// What was done.
    pub async fn done(&self, look: &Look, arrived: &Arrived, now: &StorageContent) -> Outcome {
        let verb = match self.by_node {
            true => "downloaded",
            false => "uploaded",
        };
        let replacing = match look.found {
            Some(_) => ", replacing what was there",
            None => "",
        };
        let (size, digest) = (now.size.or(arrived.size), arrived.digests.first());
        let outcome = Outcome::changed(format!("{verb} {}{replacing}", self.volid));
        let outcome = outcome.diff(self.diff(look, size, digest));
        let outcome = self.values(outcome, size, digest);
        let outcome = match &arrived.upid {
            Some(upid) => outcome.with("upid", upid.to_string()),
            None => outcome,
        };
        self.with_path(outcome).await
    }

    fn diff(&self, look: &Look, size: Option<u64>, digest: Option<&Digest>) -> Diff {
        let mut after = Map::from_iter([("volid".to_string(), json!(self.volid.to_string()))]);
        after.extend(size.map(|size| ("size".to_string(), json!(size))));
        after.extend(digest.map(|digest| ("checksum".to_string(), json!(digest))));
        Diff::new(before(look.found.as_ref(), look.memory.valid()), after)
            .header(self.volid.to_string())
    }

    fn values(&self, outcome: Outcome, size: Option<u64>, digest: Option<&Digest>) -> Outcome {
        let mut outcome = outcome.with("volid", self.volid.to_string());
        if let Some(size) = size {
            outcome = outcome.with("size", size);
        }
        match digest {
            Some(digest) => outcome.with("checksum", digest),
            None => outcome,
        }
    }

    /// With where the file is on the node. Whether PVE says that changes nothing else.
    async fn with_path(&self, outcome: Outcome) -> Outcome {
        let path = self
            .context
            .client
            .volume_path(self.node, self.volid, self.context.deadline)
            .await;
        match path {
            Ok(Some(path)) => outcome.with("path", path),
            _ => outcome,
        }
    }
}

/// A volume in a diff, with its checksum if that is recorded.
fn before(volume: Option<&StorageContent>, record: Option<&Record>) -> Value {
    let Some(volume) = volume else {
        return json!({});
    };
    let mut shown = Map::from_iter([("volid".to_string(), json!(volume.volid))]);
    shown.extend(volume.size.map(|size| ("size".to_string(), json!(size))));
    if let Some(digest) = record.and_then(|record| record.digests.first()) {
        shown.insert("checksum".into(), json!(digest));
    }
    Value::Object(shown)
}
