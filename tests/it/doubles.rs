//! Test doubles of the services that notifications go to and that agents use. They fail on command.

pub(crate) mod clickhouse;
pub(crate) mod collector;
pub(crate) mod flows;
pub(crate) mod mailbox;
pub(crate) mod mariadb;
pub(crate) mod model;
pub(crate) mod orchestrator_cc;
pub(crate) mod service;
pub(crate) mod sink;
pub(crate) mod slack;
pub(crate) mod smtp;
pub(crate) mod unreliable;
