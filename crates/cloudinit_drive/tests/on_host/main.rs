//! The built module against a PVE test host without guests.

mod lab;
mod native;
mod nocloud;
mod privileges;
