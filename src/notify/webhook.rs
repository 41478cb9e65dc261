//! The generic webhook: Alertmanager's payload of version 4, each alert in it, signed, with an idempotency key.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::http::Http;
use super::labels;
use crate::model::{Notice, NoticeKind, SendError, Time};

/// What an `endsAt` is while there is none: Go's zero time, as receivers of Alertmanager's payload know it.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// How long an announcement stands: nothing ever ends it.
const ANNOUNCEMENT: Duration = Duration::from_secs(300);

/// A webhook.
#[derive(Debug)]
pub(super) struct Webhook {
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
    alerts: Vec<Alert>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Alert {
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
    /// Posts through `http` for the receiver of that name; `external_url` is where we are found by others.
    pub(super) const fn new(http: Http, receiver: Arc<str>, external_url: String) -> Self {
        Self { http, receiver, external_url }
    }

    /// The same with another deadline, for tests of a receiver that hangs.
    #[cfg(test)]
    pub(super) fn with_deadline(self, deadline: std::time::Duration) -> Self {
        Self { http: self.http.with_deadline(deadline), ..self }
    }

    /// The bytes of the request that tells `notices`.
    pub(super) fn render(&self, notices: &[Arc<Notice>]) -> String {
        let alerts: Vec<Alert> = notices.iter().map(|notice| alert(notice, &self.external_url)).collect();
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

    /// Tells `notices` in one request.
    pub(super) async fn send(&self, now: Time, notices: &[Arc<Notice>]) -> Result<(), SendError> {
        self.http.post(now, self.render(notices), &key(notices)).await
    }
}

/// The key of a request: that of its notice, or a digest of those of all.
pub(super) fn key(notices: &[Arc<Notice>]) -> String {
    if let [notice] = notices {
        return notice.key.to_string();
    }
    let mut keys: Vec<&str> = notices.iter().map(|notice| &*notice.key).collect();
    keys.sort_unstable();
    let digest = ring::digest::digest(&ring::digest::SHA256, keys.join("\n").as_bytes());
    digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn alert(notice: &Notice, external_url: &str) -> Alert {
    let is_over = !notice.kind.is_firing();
    Alert {
        status: if is_over { "resolved" } else { "firing" },
        labels: labels::of(notice, notice.level),
        annotations: labels::annotations(notice),
        starts_at: notice.fired_at.to_string(),
        ends_at: match notice.kind {
            NoticeKind::Resolved => notice.resolved_at.unwrap_or(notice.at).to_string(),
            kind if kind.is_of_alert() => NEVER.to_owned(),
            _ => notice.at.plus(ANNOUNCEMENT).to_string(),
        },
        generator_url: labels::link(notice, external_url),
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

#[cfg(test)]
mod tests {
    use super::super::samples::{firing, resolved};
    use super::*;
    use crate::model::Level;
    use crate::notify::answer::Success;
    use crate::notify::http::Target;
    use crate::secret::{Secret, SecretSource};

    #[test]
    fn the_payload_is_alertmanagers_version_four() {
        let target = Target::Url(SecretSource::Value(Secret::new("https://x.invalid/")));
        let http = Http::new(
            "webhook",
            crate::http_client::build(std::time::Duration::from_secs(1), None).unwrap(),
            target,
            Success::AnyAnswer,
        );
        let webhook = Webhook::new(http, "hook".into(), "https://lookout.example".to_owned());
        let notices = [firing("worker-1", Level::Error, 0.0), resolved("worker-2", 60.0)].map(Arc::new);
        let payload: serde_json::Value = serde_json::from_str(&webhook.render(&notices)).unwrap();
        insta::assert_snapshot!(serde_json::to_string_pretty(&payload).unwrap());
        assert_eq!(key(&notices[..1]), &*notices[0].key);
        let [first, second] = notices;
        assert_eq!(key(&[first.clone(), second.clone()]), key(&[second, first]), "the order is of no matter");
    }
}
