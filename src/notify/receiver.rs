//! A receiver: what it is notified of, and the transport that sends to it.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{Audience, DeliveryReceipt, Level, Notice, Problem, ReceiverPolicy, SendError, Time};

use super::config::{self, ReceiverConfig};
use super::queue::Pace;
use super::receivers::{Console, Parts, Transport};
use super::words::Words;

/// A receiver that is ready to send.
#[derive(Debug)]
pub struct Receiver {
    /// Its name.
    pub name: Arc<str>,
    kind: &'static str,
    /// What it is notified of, and when.
    pub(super) policy: ReceiverPolicy,
    transport: Box<dyn Transport>,
    pub(super) pace: Pace,
}

impl Receiver {
    /// The receivers that `configs` describe, or every mistake in it, those of [`config::validate`] included.
    /// It reads each `ca_file`, and no secret.
    pub fn build(configs: &[ReceiverConfig]) -> Result<Vec<Self>, Vec<Problem>> {
        Self::build_within(configs, None)
    }

    /// The same with another deadline for each exchange, and for each step of a dialogue.
    pub(super) fn build_within(
        configs: &[ReceiverConfig],
        deadline: Option<Duration>,
    ) -> Result<Vec<Self>, Vec<Problem>> {
        let mut problems = config::validate(configs);
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut client = None;
        let mut receivers = Vec::with_capacity(configs.len());
        for (place, config) in configs.iter().enumerate() {
            match Self::one(config, &mut client, deadline) {
                Ok(receiver) => receivers.push(receiver),
                Err((key, message)) => {
                    let path = format!("receivers[{place}].{key}").trim_end_matches('.').to_owned();
                    problems.push(Problem::new(path, message));
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        for (receiver, config) in receivers.iter_mut().zip(configs) {
            let sharing = configs.iter().filter(|other| are_one_place(config, other)).count();
            receiver.pace.share(u32::try_from(sharing).unwrap_or(u32::MAX));
        }
        Ok(receivers)
    }

    /// One receiver; the error is the key and what is wrong. All that send over HTTP share one `client`.
    fn one(
        config: &ReceiverConfig,
        client: &mut Option<reqwest::Client>,
        deadline: Option<Duration>,
    ) -> Result<Self, (String, String)> {
        let common = &config.common;
        let words = Words::new(common.title.as_deref(), common.text.as_deref())
            .map_err(|(key, message)| (key.to_owned(), message))?;
        let kind = config.kinds.one().map_err(|message| (String::new(), message))?;
        let parts = Parts { name: &common.name, external_url: &common.external_url, words, client, deadline };
        let transport = kind.build(parts)?;
        let audience = transport.audience();
        let pace = Pace {
            group_wait: common.group_wait,
            group_by: common.group_by,
            bucket: transport.rate(),
            keeps_batches: audience == Audience::Program,
            ..Pace::default()
        };
        let policy = ReceiverPolicy {
            send_resolved: common.send_resolved,
            audience,
            only: Arc::from(common.only.as_slice()),
            except: Arc::from(common.except.as_slice()),
            after: common.after,
            quiet: Arc::from(common.quiet_hours.as_slice()),
            ..ReceiverPolicy::new(common.name.as_str(), common.min_level)
        };
        Ok(Self { name: Arc::clone(&policy.name), kind: kind.key(), policy, transport, pace })
    }

    /// Standard output, for the demo: it is notified of everything.
    pub fn console() -> Self {
        Self {
            name: Arc::from("console"),
            kind: "console",
            policy: ReceiverPolicy::new("console", Level::Info),
            transport: Box::new(Console),
            pace: Pace::default(),
        }
    }

    /// What the life of an alert must know of it.
    pub fn policy(&self) -> ReceiverPolicy {
        self.policy.clone()
    }

    /// What kind it is: the key that configures it, or `console`.
    pub const fn kind(&self) -> &'static str {
        self.kind
    }

    /// How many of `notices`, from the first on, one message has room for.
    pub(super) fn fitting(&self, now: Time, notices: &[&Notice]) -> usize {
        self.transport.fitting(now, notices)
    }

    /// Sends `notices` in one message, within the transport's deadlines (HTTP 10 s; mail 60 s for each step, 10 min for
    /// the reply to the end of the mail); none is no message.
    pub async fn send(&self, now: Time, notices: &[Arc<Notice>]) -> Result<DeliveryReceipt, SendError> {
        if notices.is_empty() {
            return Ok(DeliveryReceipt::default());
        }
        self.transport.send(now, notices).await
    }

    /// Whether it forgets what lasts when it is not reminded of it.
    pub(super) fn is_forgetful(&self) -> bool {
        self.transport.is_forgetful()
    }

    /// Reminds it of what lasts.
    pub(super) async fn remind(&self, now: Time, standing: &[Arc<Notice>]) -> Result<DeliveryReceipt, SendError> {
        self.transport.remind(now, standing).await
    }

    /// The bytes of the message that would carry `notices` at `now`: a request's body, a whole mail, or the lines printed.
    pub(super) fn render(&self, now: Time, notices: &[Arc<Notice>]) -> Result<Vec<u8>, String> {
        self.transport.render(now, notices)
    }
}

/// Whether both write to one webhook, or through one bot to one channel, which has one rate for all.
fn are_one_place(one: &ReceiverConfig, other: &ReceiverConfig) -> bool {
    matches!((one.kinds.one(), other.kinds.one()), (Ok(one), Ok(other)) if one.is_place_of(other))
}

#[cfg(test)]
mod tests;
