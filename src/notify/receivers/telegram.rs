//! Telegram, through a bot: plain text to one chat.

use std::path::PathBuf;

use minijinja::context;
use serde::{Deserialize, Serialize};

use super::template::Chat;
use super::{Parts, ReceiverSection, Transport, Wrong, wrong};
use crate::notify::answer::Success;
use crate::notify::http::Target;
use crate::notify::settings::{Reporter, api};
use crate::secret::{Secret, SecretSource, SecretUrl};

/// Longest title, in characters.
const TITLE: usize = 1_000;
/// The body of the request.
const TEMPLATE: &str = r##"{"chat_id": {{ chat_id | json }}, "disable_web_page_preview": true,
 "text": {{ (title ~ ("\n" ~ text if text else "") ~ ("\n" ~ action if action else "") ~ ("\n" ~ footer if footer else "")) | cut(4000) | json }}}
"##;

/// A bot in Telegram.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct TelegramConfig {
    /// Its token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bot_token: Option<Secret>,
    /// The file that holds its token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bot_token_file: Option<PathBuf>,
    /// The chat.
    pub chat_id: String,
    /// Where Telegram answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_url: Option<SecretUrl>,
}

impl TelegramConfig {
    fn token(&self) -> Result<SecretSource, &'static str> {
        SecretSource::from_required_pair(&self.bot_token, &self.bot_token_file)
    }
}

impl ReceiverSection for TelegramConfig {
    fn validate(&self, report: &mut Reporter<'_>) {
        report.secret("bot_token", self.token().map(Some));
        if self.chat_id.is_empty() {
            report.add("chat_id", "it is not given; it is a number, or @name of a channel");
        }
        report.url("api_url", self.api_url.as_deref());
    }

    fn build(&self, mut parts: Parts<'_>) -> Result<Box<dyn Transport>, Wrong> {
        let token = self.token().map_err(wrong("bot_token"))?;
        let url = format!("{}/bot{{token}}/sendMessage", api(self.api_url.as_ref(), "https://api.telegram.org"));
        let http = parts.http("telegram", Target::WithToken(url, token), Success::Acknowledgement)?;
        let more = context! { chat_id => &*self.chat_id };
        Ok(Box::new(Chat::new(http, parts.words, (TEMPLATE, TITLE), more).map_err(|error| ("", error))?))
    }

    #[cfg(test)]
    fn samples(address: std::net::SocketAddr) -> Vec<super::Sample> {
        let api = format!("http://{address}");
        let section = serde_json::json!({"bot_token": super::SECRET, "chat_id": "42", "api_url": api});
        vec![super::Sample::post(Success::Acknowledgement, section)]
    }
}
