//! Calls about one VM, and the list of VMs.
use serde_json::{Value, json};
use super::{Context, Reply};
use crate::error::{ApiError, ApiResult};
use crate::vm;
/// GET /nodes/N/qemu: silently without those the user may not see.
pub fn list(context: &Context) -> ApiResult {
    let may = |vmid: &u32| context.may(&format!("/vms/{vmid}"), &["VM.Audit"]);
    Ok(vm::ids(&context.host).into_iter().filter(may).filter_map(|vmid| vm::status::summary(&context.host, vmid).ok()).collect::<Vec<Value>>().into())
}
pub async fn handle(method: &str, rest: &str, context: Context) -> Result<Reply, ApiError> {
    let vmid = context.vmid()?;
    match (method, rest) {
        ("GET", "/status/current") => vm::status::current(&context.host, vmid).map(Reply::Data),
        _ => Err(ApiError::not_implemented(method, rest)),
    }
}
