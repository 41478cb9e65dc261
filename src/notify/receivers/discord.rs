//! Discord, through a webhook, which takes a message with an embed.

use minijinja::context;
use serde::{Deserialize, Serialize};

use super::template::Chat;
use super::{Parts, ReceiverSection, Transport, Wrong, wrong};
use crate::notify::answer::Success;
use crate::notify::http::Target;
use crate::notify::settings::{Reporter, WebhookAddress};

/// Longest title, in characters.
const TITLE: usize = 200;
/// The body of the request.
const TEMPLATE: &str = r##"{"username": "lookout", "allowed_mentions": {"parse": []}, "embeds": [{
  "title": {{ title | markdown | cut(256) | json }},
  "description": {{ (text ~ ("\n" if text and action else "") ~ action) | markdown | cut(4000) | json }},
  "color": {{ colour_number }},
  "fields": [{% for fact in facts[:20] %}{"name": {{ fact.0 | json }}, "value": {{ fact.1 | markdown | cut(1000) | json }}, "inline": true}{% if not loop.last %}, {% endif %}{% endfor %}]
}]}
"##;

/// A channel of Discord.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(transparent)]
pub struct DiscordConfig(WebhookAddress);

impl ReceiverSection for DiscordConfig {
    fn validate(&self, report: &mut Reporter<'_>) {
        self.0.validate(report);
    }

    fn build(&self, mut parts: Parts<'_>) -> Result<Box<dyn Transport>, Wrong> {
        let target = Target::Url(self.0.source().map_err(wrong("webhook_url"))?);
        let http = parts.http("discord", target, Success::NoError)?;
        Ok(Box::new(Chat::new(http, parts.words, (TEMPLATE, TITLE), context! {}).map_err(|error| ("", error))?))
    }

    #[cfg(test)]
    fn samples(address: std::net::SocketAddr) -> Vec<super::Sample> {
        let url = format!("http://{address}/services/{}", super::SECRET);
        vec![super::Sample::post(Success::NoError, serde_json::json!({"webhook_url": url}))]
    }
}
