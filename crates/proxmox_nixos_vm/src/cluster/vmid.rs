//! A range of VMIDs to choose from.

use std::collections::BTreeSet;

use ansible_module::Failure;
use serde_json::Value;

use crate::config::text;
use crate::context::Context;
use crate::error::Error;

/// PVE's VMIDs: 100 to 999999999 (PVE::JSONSchema, `pve-vmid`).
const ALL: (u32, u32) = (100, 999_999_999);

/// VMIDs, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VmidRange {
    min: u32,
    max: u32,
}

impl VmidRange {
    /// Read `200-299`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let number = |part: &str| part.trim().parse::<u32>().ok();
        let ends = text.split_once('-').map(|(a, b)| (number(a), number(b)));
        match ends {
            Some((Some(min), Some(max))) if min >= ALL.0 && max <= ALL.1 && min <= max => {
                Ok(Self { min, max })
            }
            _ => Err(format!(
                "vmid_range: '{text}' is not a range of VMIDs; write for example 200-299 (from {} to {})",
                ALL.0, ALL.1
            )),
        }
    }

    /// The first VMID after `tried` that is free now. It is not a reservation.
    ///
    /// # Errors
    /// Kind `no_vmid` when there is none; otherwise the API's.
    pub async fn free(self, context: &Context<'_>, tried: Option<u32>) -> Result<u32, Failure> {
        let query = [("type", "vm".to_owned())];
        let known = context
            .client
            .get("/cluster/resources", &query, context.deadline)
            .await
            .map_err(pve_module::doing("ask for a free VMID"))?;
        let known = vmids(&known);
        let first = tried.map_or(self.min, |last| self.min.max(last.saturating_add(1)));
        for vmid in (first..=self.max).filter(|vmid| !known.contains(vmid)) {
            // The list has only what the token may see; this call knows the whole cluster.
            if !is_taken(context, vmid).await? {
                return Ok(vmid);
            }
        }
        let Self { min, max } = self;
        Err(Error::NoVmid { min, max }.into())
    }
}

/// Whether the VMID belongs to a guest, which the caller may not see.
///
/// # Errors
/// The API's.
pub async fn is_taken(context: &Context<'_>, vmid: u32) -> Result<bool, Failure> {
    let query = [("vmid", vmid.to_string())];
    match context
        .client
        .get("/cluster/nextid", &query, context.deadline)
        .await
    {
        Ok(_) => Ok(false),
        Err(error) if error.errors().is_some_and(|e| e.contains_key("vmid")) => Ok(true),
        Err(error) => Err(pve_module::doing(format!(
            "ask whether VMID {vmid} is free"
        ))(error)),
    }
}

/// The VMIDs in an answer of `cluster/resources`.
fn vmids(resources: &Value) -> BTreeSet<u32> {
    let entries = resources.as_array().into_iter().flatten();
    entries
        .filter_map(|entry| text::scalar(entry.get("vmid")?)?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ranges() {
        assert_eq!(
            VmidRange::parse("200-299"),
            Ok(VmidRange { min: 200, max: 299 })
        );
        assert_eq!(
            VmidRange::parse(" 100 - 100 "),
            Ok(VmidRange { min: 100, max: 100 })
        );
        for wrong in [
            "",
            "200",
            "99-200",
            "300-200",
            "100-1000000000",
            "a-b",
            "-5",
        ] {
            assert!(VmidRange::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn vmids_are_numbers_or_texts() {
        let answer = json!([{"vmid": 101}, {"vmid": "102"}, {"id": "node/pve"}]);
        assert_eq!(vmids(&answer), BTreeSet::from([101, 102]));
    }
}
