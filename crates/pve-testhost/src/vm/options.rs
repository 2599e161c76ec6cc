//! What PVE knows about single options: their privileges, how values are stored and shown.
use std::collections::BTreeMap;
/// Is the agent's device configured?
pub fn agent_enabled(config: &BTreeMap<String, String>) -> bool {
    config.get("agent").is_some_and(|value| {
        crate::schema::property_string("agent", "agent", value).is_ok_and(|keys| keys.get("enabled").is_some_and(|on| on == "1"))
    })
}
