//! The generic webhook: Alertmanager's payload of version 4, each alert in it, signed, with an idempotency key. And what
//! programs of Prometheus' kind are notified of an alert: labels, annotations and a link.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Parts, ReceiverSection, Sending, Transport, Wrong, wrong};
use crate::model::{Audience, DeliveryReceipt, Level, Notice, NoticeKind, Time};
use crate::notify::answer::Success;
use crate::notify::http::{self, Http, Target};
use crate::notify::settings::Reporter;
use crate::secret::{Secret, SecretPair, SecretSource};
use crate::text;

/// What an `endsAt` is while there is none: Go's zero time, as receivers of Alertmanager's payload know it.
const NEVER: &str = "0001-01-01T00:00:00Z";
/// How long an announcement stands: nothing ever ends it.
const ANNOUNCEMENT: Duration = Duration::from_secs(300);
/// Alerts that one request carries.
const ALERTS: usize = 500;
/// Most headers.
const MOST_HEADERS: usize = 20;

/// A webhook that takes Alertmanager's payload of version 4.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookConfig {
    /// Its address, which is a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<Secret>,
    /// The file that holds its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url_file: Option<PathBuf>,
    /// Signs each body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// The file that holds the secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<PathBuf>,
    /// Sent as a bearer token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// The file that holds the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// More headers; their values are secrets.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Secret>,
}

impl WebhookConfig {
    fn address(&self) -> Result<SecretSource, &'static str> {
        SecretSource::from_required_pair(&self.url, &self.url_file)
    }

    fn secret(&self) -> SecretPair {
        SecretSource::from_pair(&self.secret, &self.secret_file)
    }

    fn token(&self) -> SecretPair {
        SecretSource::from_pair(&self.token, &self.token_file)
    }
}

impl ReceiverSection for WebhookConfig {
    fn validate(&self, report: &mut Reporter<'_>) {
        report.address("url", self.address());
        report.secret("secret", self.secret());
        report.secret("token", self.token());
        if self.headers.len() > MOST_HEADERS {
            report.add("headers", format!("there are {}; give at most {MOST_HEADERS}", self.headers.len()));
        }
        for (name, value) in &self.headers {
            if reqwest::header::HeaderName::from_bytes(name.as_bytes()).is_err() {
                let name = text::clean(name, 50);
                report.add("headers", format!("`{name}` is not the name of a header"));
            } else if reqwest::header::HeaderValue::from_str(value.expose()).is_err() {
                report.add("headers", format!("the value of `{name}` can't be sent; remove line ends from it"));
            }
        }
    }

    fn build(&self, mut parts: Parts<'_>) -> Result<Box<dyn Transport>, Wrong> {
        let target = Target::Url(self.address().map_err(wrong("url"))?);
        let http = parts
            .http("webhook", target, Success::AnyAnswer)?
            .with_secret(self.secret().map_err(wrong("secret"))?)
            .with_token(self.token().map_err(wrong("token"))?)
            .with_headers(self.headers.clone().into_iter().collect());
        Ok(Box::new(Webhook { http, receiver: Arc::from(parts.name), external_url: parts.external_url.to_owned() }))
    }

    #[cfg(test)]
    fn samples(address: std::net::SocketAddr) -> Vec<super::Sample> {
        use super::{SECRET, Sample};
        let url = format!("http://{address}/services/{SECRET}");
        let section = serde_json::json!({"url": url, "secret": SECRET, "token": SECRET, "headers": {"x-key": SECRET}});
        vec![Sample::post(Success::AnyAnswer, section)]
    }
}

/// A webhook.
#[derive(Debug)]
struct Webhook {
    http: Http,
    receiver: Arc<str>,
    external_url: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    version: &'static str,
    group_key: String,
    truncated_alerts: u32,
    status: &'static str,
    receiver: &'a str,
    group_labels: BTreeMap<String, String>,
    common_labels: BTreeMap<String, String>,
    common_annotations: BTreeMap<String, String>,
    #[serde(rename = "externalURL")]
    external_url: &'a str,
    alerts: Vec<WebhookAlert>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WebhookAlert {
    status: &'static str,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: String,
    fingerprint: String,
    /// Ours: the same whenever the same is sent again.
    idempotency_key: Arc<str>,
}

impl Webhook {
    fn body(&self, notices: &[Arc<Notice>]) -> String {
        let alerts: Vec<WebhookAlert> = notices.iter().map(|notice| alert(notice, &self.external_url)).collect();
        let is_firing = alerts.iter().any(|alert| alert.status == "firing");
        let payload = Payload {
            version: "4",
            group_key: format!("{{}}:{{receiver={:?}}}", &*self.receiver),
            truncated_alerts: 0,
            status: if is_firing { "firing" } else { "resolved" },
            receiver: &self.receiver,
            group_labels: BTreeMap::new(),
            common_labels: common(alerts.iter().map(|alert| &alert.labels)),
            common_annotations: common(alerts.iter().map(|alert| &alert.annotations)),
            external_url: &self.external_url,
            alerts,
        };
        serde_json::to_string(&payload).unwrap_or_default()
    }
}

impl Transport for Webhook {
    fn audience(&self) -> Audience {
        Audience::Program
    }

    fn fitting(&self, _now: Time, notices: &[&Notice]) -> usize {
        notices.len().min(ALERTS)
    }

    fn render(&self, _now: Time, notices: &[Arc<Notice>]) -> Result<Vec<u8>, String> {
        Ok(self.body(notices).into_bytes())
    }

    fn send<'a>(&'a self, now: Time, notices: &'a [Arc<Notice>]) -> Sending<'a> {
        Box::pin(async move {
            self.http.post(now, self.body(notices), &http::key(notices)).await?;
            Ok(DeliveryReceipt::default())
        })
    }
}

fn alert(notice: &Notice, external_url: &str) -> WebhookAlert {
    let is_over = !notice.kind.is_firing();
    WebhookAlert {
        status: if is_over { "resolved" } else { "firing" },
        labels: labels(notice, notice.level),
        annotations: annotations(notice),
        starts_at: notice.fired_at.to_string(),
        ends_at: match notice.kind {
            NoticeKind::Resolved => notice.resolved_at.unwrap_or(notice.at).to_string(),
            kind if kind.is_of_alert() => NEVER.to_owned(),
            _ => notice.at.plus(ANNOUNCEMENT).to_string(),
        },
        generator_url: link(notice, external_url),
        fingerprint: notice.fingerprint.to_string(),
        idempotency_key: Arc::clone(&notice.key),
    }
}

/// What all of them have.
fn common<'a>(mut maps: impl Iterator<Item = &'a BTreeMap<String, String>>) -> BTreeMap<String, String> {
    let mut common = maps.next().cloned().unwrap_or_default();
    for map in maps {
        common.retain(|name, value| map.get(name) == Some(value));
    }
    common
}

/// The labels of an alert at `level`: who it is, and never a value.
pub(super) fn labels(notice: &Notice, level: Level) -> BTreeMap<String, String> {
    let mut labels =
        BTreeMap::from([("alertname".to_owned(), notice.rule.to_string()), ("severity".to_owned(), level.to_string())]);
    if let Some(project) = notice.subject.project() {
        labels.insert("project".to_owned(), project.to_string());
    }
    labels.insert(notice.subject.label().to_owned(), notice.subject.name().to_string());
    labels
}

/// Its annotations.
pub(super) fn annotations(notice: &Notice) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::from([("summary".to_owned(), notice.sentence())]);
    if !notice.action.is_empty() {
        annotations.insert("action".to_owned(), notice.action.to_string());
    }
    if let Some(value) = notice.value.filter(|value| value.is_finite()) {
        annotations.insert("value".to_owned(), value.to_string());
    }
    if let Some(ending) = notice.ending {
        annotations.insert("ending".to_owned(), ending.as_str().to_owned());
    }
    annotations
}

/// Where it can be looked up.
pub(super) fn link(notice: &Notice, external_url: &str) -> String {
    if external_url.is_empty() || !notice.kind.is_of_alert() {
        return external_url.to_owned();
    }
    format!("{}/api/alerts/{}/why", external_url.trim_end_matches('/'), notice.fingerprint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::samples::{at, firing, resolved};
    use crate::notify::transport_tests::build_with;

    #[test]
    fn the_payload_is_alertmanagers_version_four() {
        let webhook = serde_json::json!({"name": "hook", "webhook": {"url": "https://x.invalid/"}});
        let webhook = build_with(webhook, "https://lookout.example");
        let notices = [firing("worker-1", Level::Error, 0.0), resolved("worker-2", 60.0)].map(Arc::new);
        let payload: serde_json::Value = serde_json::from_slice(&webhook.render(at(0.0), &notices).unwrap()).unwrap();
        insta::assert_snapshot!(serde_json::to_string_pretty(&payload).unwrap());
        assert_eq!(http::key(&notices[..1]), &*notices[0].key);
        let [first, second] = notices;
        let swapped = [second.clone(), first.clone()];
        assert_eq!(http::key(&[first, second]), http::key(&swapped), "the order is of no matter");
    }
}
