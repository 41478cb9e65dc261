//! Microsoft Teams, through a workflow's webhook, which takes a message with an adaptive card.

use minijinja::context;
use serde::{Deserialize, Serialize};

use super::template::Chat;
use super::{Parts, ReceiverSection, Transport, Wrong, wrong};
use crate::notify::answer::Success;
use crate::notify::http::Target;
use crate::notify::settings::{Reporter, WebhookAddress};

/// Longest title, in characters.
const TITLE: usize = 1_000;
/// The body of the request.
const TEMPLATE: &str = r##"{"type": "message", "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive", "content": {
  "$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4",
  "msteams": {"width": "Full"},
  "body": [
    {"type": "TextBlock", "size": "large", "weight": "bolder", "wrap": true,
     "color": {{ ("attention" if tone in ["critical", "error"] else ("warning" if tone == "warning" else "good")) | json }},
     "text": {{ title | markdown | json }}}
    {%- if text %},
    {"type": "TextBlock", "wrap": true, "text": {{ text | markdown | json }}}
    {%- endif %}
    {%- if action %},
    {"type": "TextBlock", "wrap": true, "text": {{ action | markdown | json }}}
    {%- endif %}
    {%- if facts %},
    {"type": "FactSet", "facts": [{% for fact in facts %}{"title": {{ fact.0 | json }}, "value": {{ fact.1 | markdown | json }}}{% if not loop.last %}, {% endif %}{% endfor %}]}
    {%- endif %}
  ]}}]}
"##;

/// A channel of Microsoft Teams.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(transparent)]
pub struct TeamsConfig(WebhookAddress);

impl ReceiverSection for TeamsConfig {
    fn validate(&self, report: &mut Reporter<'_>) {
        self.0.validate(report);
    }

    fn build(&self, mut parts: Parts<'_>) -> Result<Box<dyn Transport>, Wrong> {
        let target = Target::Url(self.0.source().map_err(wrong("webhook_url"))?);
        let http = parts.http("teams", target, Success::NoError)?;
        Ok(Box::new(Chat::new(http, parts.words, (TEMPLATE, TITLE), context! {}).map_err(|error| ("", error))?))
    }

    #[cfg(test)]
    fn samples(address: std::net::SocketAddr) -> Vec<super::Sample> {
        let url = format!("http://{address}/services/{}", super::SECRET);
        vec![super::Sample::post(Success::NoError, serde_json::json!({"webhook_url": url}))]
    }
}
