//! fleet

pub mod config;
