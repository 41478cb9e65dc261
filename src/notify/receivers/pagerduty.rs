//! PagerDuty's events, version 2: each alert is an event of its own, and its end resolves it.

use std::path::PathBuf;
use std::sync::Arc;

use minijinja::context;
use serde::{Deserialize, Serialize};

use super::template::{Template, failed};
use super::{Parts, ReceiverSection, Sending, Transport, Wrong, wrong};
use crate::model::{Audience, DeliveryReceipt, Notice, Time};
use crate::notify::answer::Success;
use crate::notify::http::{self, Http, Target, read};
use crate::notify::settings::Reporter;
use crate::notify::words::Words;
use crate::secret::{Secret, SecretSource, SecretUrl};

/// Longest summary, in characters; PagerDuty takes 1,024.
const TITLE: usize = 1_000;
/// The body of the request.
const TEMPLATE: &str = r##"{"routing_key": {{ token | json }}, "event_action": {{ ("resolve" if is_over else "trigger") | json }}, "dedup_key": {{ fingerprint | json }},
 "client": "lookout",
 "payload": {"summary": {{ title | json }}, "source": {{ subject | json }}, "severity": {{ level | json }},
   "component": {{ rule | json }}, "group": {{ project | json }}, "timestamp": {{ at | json }},
   "custom_details": { {%- if text %}"Text": {{ text | json }}{% if action or facts %}, {% endif %}{% endif %}{% if action %}"Action": {{ action | json }}{% if facts %}, {% endif %}{% endif %}
     {%- for fact in facts %}{{ fact.0 | json }}: {{ fact.1 | json }}{% if not loop.last %}, {% endif %}{% endfor -%} }}}
"##;

/// A service of PagerDuty.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct PagerDutyConfig {
    /// The key of its integration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routing_key: Option<Secret>,
    /// The file that holds the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routing_key_file: Option<PathBuf>,
    /// Where PagerDuty takes events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_url: Option<SecretUrl>,
}

impl PagerDutyConfig {
    fn key(&self) -> Result<SecretSource, &'static str> {
        SecretSource::from_required_pair(&self.routing_key, &self.routing_key_file)
    }
}

impl ReceiverSection for PagerDutyConfig {
    fn validate(&self, report: &mut Reporter<'_>) {
        report.secret("routing_key", self.key().map(Some));
        report.url("api_url", self.api_url.as_deref());
    }

    fn build(&self, mut parts: Parts<'_>) -> Result<Box<dyn Transport>, Wrong> {
        let key = self.key().map_err(wrong("routing_key"))?;
        let api = self.api_url.as_deref().unwrap_or("https://events.pagerduty.com/v2/enqueue");
        let http = parts.http("pagerduty", Target::Plain(api.to_owned()), Success::Acknowledgement)?;
        let template = Template::new(TEMPLATE, TITLE).map_err(|error| ("", error))?;
        Ok(Box::new(PagerDuty { http, key, words: parts.words, template }))
    }

    #[cfg(test)]
    fn samples(address: std::net::SocketAddr) -> Vec<super::Sample> {
        let section = serde_json::json!({"routing_key": super::SECRET, "api_url": format!("http://{address}")});
        vec![super::Sample::post(Success::Acknowledgement, section)]
    }
}

/// A service of PagerDuty.
#[derive(Debug)]
struct PagerDuty {
    http: Http,
    /// Goes into the body.
    key: SecretSource,
    words: Words,
    template: Template,
}

impl PagerDuty {
    fn body(&self, now: Time, notices: &[Arc<Notice>], key: &str) -> Result<String, String> {
        self.template.render(now, &self.words, notices, context! { token => key })
    }
}

impl Transport for PagerDuty {
    fn audience(&self) -> Audience {
        Audience::Program
    }

    /// Without the key.
    fn render(&self, now: Time, notices: &[Arc<Notice>]) -> Result<Vec<u8>, String> {
        self.body(now, notices, "").map(String::into_bytes)
    }

    fn send<'a>(&'a self, now: Time, notices: &'a [Arc<Notice>]) -> Sending<'a> {
        Box::pin(async move {
            let key = read(&self.key).await?;
            for notice in notices.chunks(1) {
                let body = self.body(now, notice, key.expose()).map_err(failed)?;
                self.http.post(now, body, &http::key(notice)).await?;
            }
            Ok(DeliveryReceipt::default())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Level;
    use crate::notify::samples::{at, firing, resolved};

    #[test]
    fn an_alert_is_an_event_that_its_end_resolves() {
        let client = crate::http_client::build(http::DEADLINE, None).unwrap();
        let target = Target::Plain("https://x.invalid/".to_owned());
        let pagerduty = PagerDuty {
            http: Http::new("pagerduty", client, target, Success::Acknowledgement),
            key: SecretSource::Value(Secret::new("k3y")),
            words: Words::default(),
            template: Template::new(TEMPLATE, TITLE).unwrap(),
        };
        let body = |notice: Notice| -> serde_json::Value {
            serde_json::from_str(&pagerduty.body(at(20.0), &[Arc::new(notice)], "k3y").unwrap()).unwrap()
        };
        let hostile = body(firing("*w* \"1\" @everyone\n\\", Level::Error, 0.0));
        insta::assert_snapshot!("pagerduty", serde_json::to_string_pretty(&hostile).unwrap());
        let (fired, over) = (body(firing("a", Level::Warning, 0.0)), body(resolved("a", 10.0)));
        assert_eq!((&over["event_action"], &over["routing_key"]), (&"resolve".into(), &"k3y".into()));
        assert_eq!(over["dedup_key"], fired["dedup_key"], "it ends what it began");
    }
}
