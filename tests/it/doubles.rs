//! Stand-ins for the services that people are told through, which can misbehave on command.

pub(crate) mod slack;
pub(crate) mod smtp;
