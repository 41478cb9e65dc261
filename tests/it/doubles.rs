//! Stand-ins for the services that people are told through and agents work with, which can misbehave on command.

pub(crate) mod mailbox;
pub(crate) mod model;
pub(crate) mod orchestrator_cc;
pub(crate) mod service;
pub(crate) mod sink;
pub(crate) mod slack;
pub(crate) mod smtp;
