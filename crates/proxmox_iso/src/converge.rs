//! Making an ISO present: read, plan, check, lock, transfer, record.

use ansible_module::{Failure, Outcome};
use pve_module::Lock;

use crate::address::Address;
use crate::apply::{Arrived, Compared};
use crate::error::Error;
use crate::plan::{Desired, Plan, assume};
use crate::present::{Assessment, Present};
use crate::report::Report;

impl Present<'_> {
    /// Make it present.
    ///
    /// # Errors
    /// When something else of that name is there, or the transfer fails.
    pub async fn converge(&self) -> Result<Outcome, Failure> {
        let assessment = self.assess().await?;
        if let Some(outcome) = self.settled(&assessment).await? {
            return Ok(outcome);
        }
        if assessment.plan != Plan::Compare {
            self.check_right().await?;
            self.check_space(assessment.desired.size, assessment.found.as_ref())?;
            self.check_users(&assessment).await?;
        }
        let facts = self.check_content(&assessment).await?;
        if self.context.task.check_mode {
            return Ok(self.report().would(&assessment));
        }
        // Hosts that run in parallel ask for the same ISO: the first transfers it, the others
        // find it there.
        self.progress.step("lock");
        let _lock = Lock::acquire(&format!("iso-{}", self.key), self.context.deadline).await?;
        let assessment = self.assess().await?;
        if let Some(outcome) = self.settled(&assessment).await? {
            return Ok(outcome);
        }
        if assessment.plan == Plan::Compare {
            return self.compare(&assessment).await;
        }
        let arrived = self
            .send(&assessment, facts)
            .await
            .map_err(|failure| self.source.explain(failure))?;
        let now = self.transfer().verify(arrived.size).await?;
        self.remember(&arrived, &now, self.source.url().map(Address::identity));
        Ok(self.report().done(&assessment, &arrived, &now).await)
    }

    /// The outcome, if nothing has to be done.
    async fn settled(&self, assessment: &Assessment) -> Result<Option<Outcome>, Failure> {
        match &assessment.plan {
            Plan::Assume(why) => self.context.task.warn(why.clone()),
            Plan::Keep => self.learn(assessment),
            Plan::Create | Plan::Replace | Plan::Compare => return Ok(None),
        }
        Ok(Some(self.report().unchanged(assessment).await))
    }

    /// Have the node compare what is there.
    async fn compare(&self, assessment: &Assessment) -> Result<Outcome, Failure> {
        let (Some(found), Some(wanted)) = (&assessment.found, &assessment.desired.checksum) else {
            return Ok(self.report().unchanged(assessment).await);
        };
        let volid = self.volid.to_string();
        let also = [wanted.algorithm];
        // Whether an address with an uncompressed name gives something compressed is asked only if
        // what is there is not what the checksum says.
        let by_name = self.source.url().is_none() || self.source.compression().is_some();
        let mut measured = match by_name {
            true => self.unpacked(also, Some(found)).await?,
            false => None,
        };
        // The address is not asked for anything: it stands in the task's log.
        let url = match self.source.url() {
            Some(url) => url.identity(),
            None => format!("http://localhost/{}", self.volid.file_name()),
        };
        let (compared, digests) = loop {
            let digests = match measured {
                Some(measured) if Some(measured.size) != found.size => {
                    let size = found.size.unwrap_or(0);
                    let difference = format!(
                        "its size differs: {size} instead of {} bytes",
                        measured.size
                    );
                    return Err(Error::exists(&volid, difference).into());
                }
                Some(measured) => measured.digests(),
                None => vec![wanted.clone()],
            };
            let Some(digest) = digests.first() else {
                return Ok(self.report().unchanged(assessment).await);
            };
            let compared = self.transfer().compare(&url, digest).await?;
            if measured.is_none() && !by_name && matches!(compared, Compared::Differs(_)) {
                measured = self.unpacked(also, Some(found)).await?;
                if measured.is_some() {
                    continue;
                }
            }
            break (compared, digests);
        };
        match compared {
            Compared::Same => {
                let known = assessment.memory.valid();
                let arrived = Arrived {
                    upid: None,
                    size: found.size,
                    digests,
                    facts: known.map(|record| record.facts.clone()).unwrap_or_default(),
                };
                // It was not transferred now: what is known of where it came from stays.
                self.remember(
                    &arrived,
                    found,
                    known.and_then(|record| record.source.clone()),
                );
                Ok(self.report().compared(assessment, &arrived).await)
            }
            Compared::Differs(difference) => Err(Error::exists(&volid, difference).into()),
            Compared::NotAllowed => {
                let desired = Desired {
                    size: assessment
                        .desired
                        .size
                        .or_else(|| (digests.len() > 1).then_some(found.size).flatten()),
                    ..assessment.desired.clone()
                };
                if let Plan::Assume(why) = assume(&volid, &desired, found, &assessment.memory)? {
                    self.context.task.warn(format!(
                        "{why}, as {} may not have node {} do it (Sys.AccessNetwork)",
                        self.context.client.caller(),
                        self.options.node
                    ));
                }
                Ok(self.report().unchanged(assessment).await)
            }
        }
    }

    fn report(&self) -> Report<'_> {
        Report {
            context: self.context,
            node: &self.options.node,
            volid: &self.volid,
            by_node: self.by_node(),
        }
    }
}
