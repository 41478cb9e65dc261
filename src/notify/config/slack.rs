//! The kind `slack`: an incoming webhook, or a bot.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Reporter, webhook_url};
use crate::secret::{Secret, SecretSource, SecretUrl};
use crate::text;

/// A channel in Slack: through an incoming webhook, or, with more to it, through a bot.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SlackConfig {
    /// The webhook's URL, which is a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_url: Option<Secret>,
    /// The file that holds the webhook's URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_url_file: Option<PathBuf>,
    /// The bot's token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bot_token: Option<Secret>,
    /// The file that holds the bot's token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bot_token_file: Option<PathBuf>,
    /// The channel that the bot writes to: its id, or `#name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Where the bot's API is, if not at slack.com.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_url: Option<SecretUrl>,
}

/// How Slack is told.
#[derive(Clone, Debug)]
pub(in crate::notify) enum SlackWay {
    /// Through a webhook, whose URL is a secret.
    Webhook(SecretSource),
    /// Through a bot.
    Bot {
        /// Its token.
        token: SecretSource,
        /// Where it writes.
        channel: String,
        /// Where its API is.
        api: String,
    },
}

impl SlackConfig {
    /// How it is told; the error is the key and what is wrong with it.
    pub(in crate::notify) fn way(&self) -> Result<SlackWay, (&'static str, String)> {
        let token = SecretSource::from_pair(self.bot_token.as_ref(), self.bot_token_file.as_deref())
            .map_err(|problem| ("slack.bot_token", problem.to_owned()))?;
        let webhook = SecretSource::from_pair(self.webhook_url.as_ref(), self.webhook_url_file.as_deref())
            .map_err(|problem| ("slack.webhook_url", problem.to_owned()))?;
        let is_bots = self.channel.is_some() || self.api_url.is_some();
        match (token, webhook) {
            (Some(_), Some(_)) => {
                Err(("slack.webhook_url", "it is given beside a bot_token; give one of the two".to_owned()))
            }
            (None, _) if is_bots => {
                Err(("slack.bot_token", "it is not given, but its channel or api_url is; give it".to_owned()))
            }
            (None, None) => {
                Err(("slack.webhook_url", "it is not given; give it, or `webhook_url_file`, or a bot_token".to_owned()))
            }
            (None, Some(webhook)) => {
                if let SecretSource::Value(url) = &webhook {
                    webhook_url(url.expose()).map_err(|problem| ("slack.webhook_url", format!("it {problem}")))?;
                }
                Ok(SlackWay::Webhook(webhook))
            }
            (Some(token), None) => {
                let channel = self.channel.clone().unwrap_or_default();
                if !text::is_name(&channel, 80) {
                    return Err(("slack.channel", "it is not given; give the channel's id or #name".to_owned()));
                }
                let api = self.api_url.as_deref().unwrap_or("https://slack.com/api").to_owned();
                webhook_url(&api).map_err(|problem| ("slack.api_url", format!("it {problem}")))?;
                Ok(SlackWay::Bot { token, channel, api })
            }
        }
    }

    pub(super) fn validate(&self, report: &mut Reporter<'_>) {
        if let Err((key, problem)) = self.way() {
            report.add(key, problem);
        }
    }
}
