//! ansible-module
