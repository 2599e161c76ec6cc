//! The built module against a PVE test host without guests.

mod installation;
mod lab;
mod module;
mod privileges;
mod trouble;
