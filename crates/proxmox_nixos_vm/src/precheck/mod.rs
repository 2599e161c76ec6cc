//! What is checked before anything is changed, because PVE reports it too late or not clearly.

pub mod ha;
pub mod hardware;
pub mod privileges;
pub mod requirements;
pub mod tags;
