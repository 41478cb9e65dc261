//! store

pub mod config;
