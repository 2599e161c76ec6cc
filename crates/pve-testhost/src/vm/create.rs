//! Creating VMs.
use crate::api::Context;
use crate::error::{ApiError, ApiResult};
pub async fn create(_context: Context) -> ApiResult { Err(ApiError::failed("soon")) }
