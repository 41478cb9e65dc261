//! notify

pub mod config;
