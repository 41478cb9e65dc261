//! The kinds of receivers: a file or folder each, and the one list of them.
//!
//! To add a kind, write its file (its section of the configuration, its transport, its message) and add it to the list.
//! The keys, the reading and printing of the configuration, the checks, the building and the tests that every kind has
//! to pass come from that list.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::de::MapAccess;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::answer::Success;
use super::http::{self, Http, Target};
use super::settings::Reporter;
use super::words::Words;
use crate::http_client;
use crate::model::{Audience, DeliveryReceipt, Notice, SendError, Time};

mod alertmanager;
mod console;
mod discord;
mod email;
mod mattermost;
mod ntfy;
mod pagerduty;
mod slack;
mod teams;
mod telegram;
mod template;
mod webhook;

pub use alertmanager::AlertmanagerConfig;
pub use email::{EmailConfig, SmtpConfig, SmtpTls};
pub use slack::SlackConfig;

pub(super) use console::Console;

/// Makes of the list of kinds all that depends on which there are.
macro_rules! kinds {
    ($($(#[$doc:meta])* $key:literal => $Kind:ident($section:ty),)+) => {
        /// A kind of receiver with its section of the configuration.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Kind {
            $($(#[$doc])* $Kind($section),)+
        }

        impl Kind {
            /// The keys that configure them.
            pub(super) const KEYS: &[&str] = &[$($key),+];

            /// The key that configures it.
            pub const fn key(&self) -> &'static str {
                match self {
                    $(Self::$Kind(_) => $key,)+
                }
            }

            fn section(&self) -> &dyn ReceiverSection {
                match self {
                    $(Self::$Kind(section) => section,)+
                }
            }

            /// Whether both write to one place, which has one rate for all.
            pub(super) fn is_place_of(&self, other: &Self) -> bool {
                match (self, other) {
                    $((Self::$Kind(one), Self::$Kind(other)) => one.is_place_of(other),)+
                    _ => false,
                }
            }

            /// Reads the value of `key`, which is one of [`Kind::KEYS`]; null is none.
            fn read<'de, M: MapAccess<'de>>(key: &str, map: &mut M) -> Result<Option<Self>, M::Error> {
                match key {
                    $($key => Ok(map.next_value::<Option<$section>>()?.map(Self::$Kind)),)+
                    _ => Ok(None),
                }
            }

            fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
                match self {
                    $(Self::$Kind(section) => map.serialize_entry($key, section),)+
                }
            }

            /// Sections of every kind that lead to a double at `address`, for the tests that all of them have to pass.
            #[cfg(test)]
            pub(super) fn samples(address: std::net::SocketAddr) -> Vec<Sample> {
                let mut samples = Vec::new();
                $(samples.extend(<$section>::samples(address).into_iter().map(|it| it.of_kind($key)));)+
                samples
            }
        }
    };
}

kinds! {
    /// Slack, through an incoming webhook or a bot.
    "slack" => Slack(slack::SlackConfig),
    /// E-mail.
    "email" => Email(email::EmailConfig),
    /// A webhook that takes Alertmanager's payload.
    "webhook" => Webhook(webhook::WebhookConfig),
    /// An Alertmanager.
    "alertmanager" => Alertmanager(alertmanager::AlertmanagerConfig),
    /// Microsoft Teams.
    "teams" => Teams(teams::TeamsConfig),
    /// Discord.
    "discord" => Discord(discord::DiscordConfig),
    /// Telegram.
    "telegram" => Telegram(telegram::TelegramConfig),
    /// PagerDuty.
    "pagerduty" => PagerDuty(pagerduty::PagerDutyConfig),
    /// ntfy.
    "ntfy" => Ntfy(ntfy::NtfyConfig),
    /// Mattermost or Rocket.Chat.
    "mattermost" => Mattermost(mattermost::MattermostConfig),
}

impl Kind {
    /// Reports what is wrong with its section.
    pub(super) fn validate(&self, report: &mut Reporter<'_>) {
        self.section().validate(&mut report.within(self.key()));
    }

    /// The transport that its section describes; the error is the key within the receiver, and what is wrong.
    pub(super) fn build(&self, parts: Parts<'_>) -> Result<Box<dyn Transport>, (String, String)> {
        self.section().build(parts).map_err(|(key, message)| match key {
            "" => (String::new(), message),
            key => (format!("{}.{key}", self.key()), message),
        })
    }
}

/// The kinds that a receiver is given. One is right; another number is reported with all else that is wrong, so that
/// they are kept as they come.
#[derive(Clone, Debug, Default)]
pub struct Kinds(Vec<Kind>);

impl Kinds {
    /// The one kind; an error when there is none, or when there are several.
    pub fn one(&self) -> Result<&Kind, String> {
        match self.0.as_slice() {
            [kind] => Ok(kind),
            [] => Err(format!("it has no kind; give one of {}", Kind::KEYS.join(", "))),
            kinds => {
                let keys: Vec<&str> = kinds.iter().map(Kind::key).collect();
                Err(format!("it has several kinds; make a receiver of each of {}", keys.join(", ")))
            }
        }
    }

    /// All that are given, in the order of the list.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Kind> {
        self.0.iter()
    }

    /// Adds the kind that the entry of `key` in `map` gives.
    pub(super) fn read<'de, M: MapAccess<'de>>(&mut self, key: &str, map: &mut M) -> Result<(), M::Error> {
        self.0.extend(Kind::read(key, map)?);
        self.0.sort_by_key(|kind| Kind::KEYS.iter().position(|key| *key == kind.key()));
        Ok(())
    }
}

impl From<Kind> for Kinds {
    fn from(kind: Kind) -> Self {
        Self(vec![kind])
    }
}

impl Serialize for Kinds {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut map = out.serialize_map(Some(self.0.len()))?;
        for kind in &self.0 {
            kind.write(&mut map)?;
        }
        map.end()
    }
}

/// A key within a section, and what is wrong with it.
pub(super) type Wrong = (&'static str, String);

/// Names the key that a problem belongs to.
fn wrong(key: &'static str) -> impl Fn(&'static str) -> Wrong {
    move |problem| (key, problem.to_owned())
}

/// The section of the configuration of one kind.
trait ReceiverSection {
    /// Reports what is wrong with it, by the keys within it.
    fn validate(&self, report: &mut Reporter<'_>);

    /// The transport that it describes, once nothing is wrong with it. It may read a file of certificates, and no secret.
    fn build(&self, parts: Parts<'_>) -> Result<Box<dyn Transport>, Wrong>;

    /// Whether both write to one place, which has one rate for all.
    fn is_place_of(&self, other: &Self) -> bool
    where
        Self: Sized + PartialEq,
    {
        self == other
    }

    /// Sections that lead to a double at `address`, one for each way to send to the kind.
    #[cfg(test)]
    fn samples(address: std::net::SocketAddr) -> Vec<Sample>
    where
        Self: Sized;
}

/// What a transport is built from, apart from its section.
pub(super) struct Parts<'a> {
    /// The receiver's name.
    pub(super) name: &'a str,
    /// Where others find us; empty when it is not configured.
    pub(super) external_url: &'a str,
    /// The receiver's own words.
    pub(super) words: Words,
    /// The client that all receivers share, once one of them needs it.
    pub(super) client: &'a mut Option<reqwest::Client>,
    /// How long an exchange, or a step of a dialogue, may take; as long as is usual for the transport when not given.
    pub(super) deadline: Option<Duration>,
}

impl Parts<'_> {
    /// The HTTP client.
    fn client(&mut self) -> Result<reqwest::Client, Wrong> {
        if let Some(client) = self.client {
            return Ok(client.clone());
        }
        let built = http_client::build(http::DEADLINE, None).map_err(|error| ("", error.to_string()))?;
        Ok(self.client.insert(built).clone())
    }

    /// Posts to `target`, which errors call `kind`; `success` is what it answers then.
    fn http(&mut self, kind: &'static str, target: Target, success: Success) -> Result<Http, Wrong> {
        Ok(Http::new(kind, self.client()?, target, success).with_deadline(self.deadline.unwrap_or(http::DEADLINE)))
    }
}

/// What comes of a message.
pub(super) type Sending<'a> = Pin<Box<dyn Future<Output = Result<DeliveryReceipt, SendError>> + Send + 'a>>;

/// How many messages a receiver takes: one each so long, and so many at once.
pub(super) type Rate = (Duration, u32);

/// What about any chat takes from one sender: a message a second, and short bursts.
const CHAT: Option<Rate> = Some((Duration::from_secs(1), 3));

/// How messages get to a receiver.
pub(super) trait Transport: fmt::Debug + Send + Sync {
    /// Who reads it.
    fn audience(&self) -> Audience {
        Audience::People
    }

    /// How many messages it accepts; `None` when it has no limit.
    fn rate(&self) -> Option<Rate> {
        None
    }

    /// How many of `notices`, from the first on, one message has room for.
    fn fitting(&self, _now: Time, notices: &[&Notice]) -> usize {
        notices.len()
    }

    /// The bytes of the message that would carry `notices` at `now`: a request's body, a whole mail, or the lines printed.
    fn render(&self, now: Time, notices: &[Arc<Notice>]) -> Result<Vec<u8>, String>;

    /// Sends `notices`, of which there is at least one.
    fn send<'a>(&'a self, now: Time, notices: &'a [Arc<Notice>]) -> Sending<'a>;

    /// Whether it forgets what lasts when it is not reminded of it.
    fn is_forgetful(&self) -> bool {
        false
    }

    /// Reminds it of what lasts.
    fn remind<'a>(&'a self, _now: Time, _standing: &'a [Arc<Notice>]) -> Sending<'a> {
        Box::pin(async { Ok(DeliveryReceipt::default()) })
    }
}

/// A section that leads to a double, and what of its answers is a success.
#[cfg(test)]
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// The kind's key.
    pub(super) key: &'static str,
    /// Its section. What is secret in it holds [`SECRET`].
    pub(super) section: serde_json::Value,
    /// How it is sent to.
    pub(super) told_by: ToldBy,
}

/// The part of a sample that no error may show.
#[cfg(test)]
pub(super) const SECRET: &str = "S3CRET";

/// How a sample is sent to.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ToldBy {
    /// By a POST with such a success; `None` where the service has a language of its own for that.
    Post(Option<Success>),
    /// By mail.
    Mail,
}

#[cfg(test)]
impl Sample {
    fn post(success: impl Into<Option<Success>>, section: serde_json::Value) -> Self {
        Self { key: "", section, told_by: ToldBy::Post(success.into()) }
    }

    fn of_kind(self, key: &'static str) -> Self {
        Self { key, ..self }
    }
}
