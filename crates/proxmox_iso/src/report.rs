//! What the module answers.

use ansible_module::{Diff, Outcome};
use pve_client::{StorageContent, Volid};
use pve_module::Context;
use serde_json::{Map, Value, json};

use crate::apply::Arrived;
use crate::checksum::Digest;
use crate::plan::Plan;
use crate::present::Assessment;
use crate::record::Record;

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
    pub async fn unchanged(&self, assessment: &Assessment) -> Outcome {
        let known = assessment
            .memory
            .valid()
            .and_then(|record| record.digests.first());
        let digest = known.or(assessment.desired.checksum.as_ref());
        self.there(assessment, digest).await
    }

    /// It is there, as a comparison has shown.
    pub async fn compared(&self, assessment: &Assessment, arrived: &Arrived) -> Outcome {
        self.there(assessment, arrived.digests.first()).await
    }

    async fn there(&self, assessment: &Assessment, digest: Option<&Digest>) -> Outcome {
        let size = assessment.found.as_ref().and_then(|volume| volume.size);
        let outcome = Outcome::unchanged(format!("{} is there", self.volid));
        let outcome = self.values(outcome, size, digest);
        self.with_path(outcome).await
    }

    /// What a check says would be done.
    pub fn would(&self, assessment: &Assessment) -> Outcome {
        let (size, digest) = (
            assessment.desired.size,
            assessment.desired.checksum.as_ref(),
        );
        if assessment.plan == Plan::Compare {
            let size = assessment.found.as_ref().and_then(|volume| volume.size);
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
        let replacing = match assessment.found {
            Some(_) => ", replacing what is there",
            None => "",
        };
        let outcome = Outcome::changed(format!("{verb} {}{replacing}", self.volid));
        let outcome = outcome.diff(self.diff(assessment, size, digest));
        self.values(outcome, size, digest)
    }

    /// What was done.
    pub async fn done(
        &self,
        assessment: &Assessment,
        arrived: &Arrived,
        now: &StorageContent,
    ) -> Outcome {
        let verb = match self.by_node {
            true => "downloaded",
            false => "uploaded",
        };
        let replacing = match assessment.found {
            Some(_) => ", replacing what was there",
            None => "",
        };
        let (size, digest) = (now.size.or(arrived.size), arrived.digests.first());
        let outcome = Outcome::changed(format!("{verb} {}{replacing}", self.volid));
        let outcome = outcome.diff(self.diff(assessment, size, digest));
        let outcome = self.values(outcome, size, digest);
        let outcome = match &arrived.upid {
            Some(upid) => outcome.with("upid", upid.to_string()),
            None => outcome,
        };
        self.with_path(outcome).await
    }

    fn diff(&self, assessment: &Assessment, size: Option<u64>, digest: Option<&Digest>) -> Diff {
        let mut after = Map::from_iter([("volid".to_string(), json!(self.volid.to_string()))]);
        after.extend(size.map(|size| ("size".to_string(), json!(size))));
        after.extend(digest.map(|digest| ("checksum".to_string(), json!(digest))));
        Diff::new(
            before(assessment.found.as_ref(), assessment.memory.valid()),
            after,
        )
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
