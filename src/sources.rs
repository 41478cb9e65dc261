//! sources

pub mod config;
