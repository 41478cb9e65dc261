//! Alertmanager as a receiver: every instance gets each alert, again each minute while it fires, and its end.
//!
//! Severity is part of an alert's identity there, so a change of level is the end of one and the beginning of another.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Parts, ReceiverSection, Sending, Transport, Wrong, webhook, wrong};
use crate::model::{Audience, DeliveryReceipt, Fingerprint, Level, Notice, NoticeKind, SendError, Time};
use crate::notify::answer::Success;
use crate::notify::http::{self, Http, Target};
use crate::notify::settings::Reporter;
use crate::secret::{Secret, SecretPair, SecretSource, SecretUrl};

/// How long an alert lasts there after it was last sent: four repeats, as Prometheus does it.
const LASTS: Duration = Duration::from_secs(240);
/// How long the end of an alert is repeated, for an instance that was away.
const OVER_AGAIN: Duration = Duration::from_secs(900);
/// Most ends that are repeated.
const ENDS: usize = 20_000;
/// Alerts that one request carries.
const CHUNK: usize = 1_000;
/// Most instances.
const MOST_INSTANCES: usize = 20;

/// Every instance of one Alertmanager.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlertmanagerConfig {
    /// The address of each instance, without `/api/v2/alerts`; never that of a balancer.
    pub urls: Vec<SecretUrl>,
    /// Sent as a bearer token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// The file that holds the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}

impl AlertmanagerConfig {
    fn token(&self) -> SecretPair {
        SecretSource::from_pair(&self.token, &self.token_file)
    }
}

impl ReceiverSection for AlertmanagerConfig {
    fn validate(&self, report: &mut Reporter<'_>) {
        if self.urls.is_empty() || self.urls.len() > MOST_INSTANCES {
            report.add("urls", format!("it has {} addresses; give 1 to {MOST_INSTANCES}", self.urls.len()));
        }
        for (place, url) in self.urls.iter().enumerate() {
            let is_http = reqwest::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
            if !is_http {
                let message = "it is not an address; write it like http://alertmanager:9093";
                report.add(&format!("urls[{place}]"), message);
            }
        }
        report.secret("token", self.token());
    }

    fn build(&self, mut parts: Parts<'_>) -> Result<Box<dyn Transport>, Wrong> {
        let token = self.token().map_err(wrong("token"))?;
        let mut instances = Vec::with_capacity(self.urls.len());
        for url in &self.urls {
            let target = Target::Plain(format!("{}/api/v2/alerts", url.trim_end_matches('/')));
            instances.push(parts.http("alertmanager", target, Success::NoError)?.with_token(token.clone()));
        }
        Ok(Box::new(Alertmanager::new(instances, parts.external_url)))
    }

    #[cfg(test)]
    fn samples(address: std::net::SocketAddr) -> Vec<super::Sample> {
        let section = serde_json::json!({"urls": [format!("http://{address}")], "token": super::SECRET});
        vec![super::Sample::post(Success::NoError, section)]
    }
}

/// Every instance of one Alertmanager.
#[derive(Debug)]
struct Alertmanager {
    instances: Vec<Http>,
    external_url: String,
    memory: Mutex<SentAlerts>,
}

/// What they were sent. Lost with the process: then a notice itself has its former level, and an alert that is not
/// repeated ends there by itself.
#[derive(Debug, Default)]
struct SentAlerts {
    /// The level at which an alert was last sent: a notice that superseded others may be wrong about it.
    held: HashMap<Fingerprint, Level>,
    /// Ends to repeat, and until when.
    ended: HashMap<Fingerprint, (PostableAlert, Time)>,
}

impl SentAlerts {
    /// The level that they hold the alert of `notice` to have, if any.
    fn level(&self, notice: &Notice) -> Option<Level> {
        self.held.get(&notice.fingerprint).copied().or(notice.previous)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct PostableAlert {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL", skip_serializing_if = "String::is_empty")]
    generator_url: String,
}

impl Alertmanager {
    /// Posts to all of `instances`; `external_url` is where we are found by others.
    fn new(instances: Vec<Http>, external_url: &str) -> Self {
        Self { instances, external_url: external_url.to_owned(), memory: Mutex::default() }
    }

    fn memory(&self) -> MutexGuard<'_, SentAlerts> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends `notices` to every instance; it is done when one of them has them all.
    async fn deliver(&self, now: Time, notices: &[Arc<Notice>]) -> Result<DeliveryReceipt, SendError> {
        let posted = {
            let memory = self.memory();
            notices.iter().flat_map(|notice| self.posted(now, notice, &memory)).collect()
        };
        let receipt = self.post(now, posted, &http::key(notices)).await?;
        let mut memory = self.memory();
        for notice in notices {
            let level = memory.level(notice).unwrap_or(notice.level);
            memory.ended.remove(&notice.fingerprint);
            if notice.kind != NoticeKind::Resolved {
                memory.held.insert(notice.fingerprint, notice.level);
                continue;
            }
            memory.held.remove(&notice.fingerprint);
            if memory.ended.len() < ENDS {
                let posted = self.one(now, notice, level, true);
                memory.ended.insert(notice.fingerprint, (posted, now.plus(OVER_AGAIN)));
            }
        }
        Ok(receipt)
    }

    /// Repeats what fires, and what ended lately.
    async fn tell_again(&self, now: Time, standing: &[Arc<Notice>]) -> Result<DeliveryReceipt, SendError> {
        let posted: Vec<PostableAlert> = {
            let mut memory = self.memory();
            let lasting: HashSet<Fingerprint> = standing.iter().map(|notice| notice.fingerprint).collect();
            memory.held.retain(|fingerprint, _| lasting.contains(fingerprint));
            memory.ended.retain(|fingerprint, (_, until)| *until > now && !lasting.contains(fingerprint));
            let lasting = standing.iter().flat_map(|notice| self.posted(now, notice, &memory));
            lasting.chain(memory.ended.values().map(|(posted, _)| posted.clone())).collect()
        };
        if posted.is_empty() {
            return Ok(DeliveryReceipt::default());
        }
        let receipt = self.post(now, posted, &format!("reminder-{}", now.as_millis())).await?;
        self.memory().held.extend(standing.iter().map(|notice| (notice.fingerprint, notice.level)));
        Ok(receipt)
    }

    async fn post(&self, now: Time, posted: Vec<PostableAlert>, key: &str) -> Result<DeliveryReceipt, SendError> {
        let bodies: Vec<String> =
            posted.chunks(CHUNK).map(|chunk| serde_json::to_string(chunk).unwrap_or_default()).collect();
        let mut tasks = Vec::with_capacity(self.instances.len());
        for instance in &self.instances {
            let bodies = &bodies;
            tasks.push(async move {
                for body in bodies {
                    instance.post(now, body.clone(), key).await?;
                }
                Ok::<(), SendError>(())
            });
        }
        // At once, so that one instance that hangs delays none.
        let (mut partial_failure, mut is_told) = (None, false);
        for (place, result) in join(tasks).await.into_iter().enumerate() {
            match result {
                Ok(()) => is_told = true,
                Err(error) => {
                    let message = format!("instance {place}: {}", error.message);
                    // One that may take it later keeps it from being given up.
                    let is_worth = partial_failure.as_ref().is_none_or(|known: &SendError| error.retry > known.retry);
                    if is_worth {
                        partial_failure = Some(SendError { message, ..error });
                    }
                }
            }
        }
        match partial_failure {
            Some(error) if !is_told => Err(error),
            partial_failure => Ok(DeliveryReceipt { references: Vec::new(), partial_failure }),
        }
    }

    /// What a notice comes to: what begins or lasts, and what ended.
    fn posted(&self, now: Time, notice: &Notice, memory: &SentAlerts) -> Vec<PostableAlert> {
        let before = memory.level(notice);
        if notice.kind == NoticeKind::Resolved {
            return vec![self.one(now, notice, before.unwrap_or(notice.level), true)];
        }
        let ended = before.filter(|before| *before != notice.level);
        let ended = ended.map(|before| self.one(now, notice, before, true));
        ended.into_iter().chain([self.one(now, notice, notice.level, false)]).collect()
    }

    fn one(&self, now: Time, notice: &Notice, level: Level, is_over: bool) -> PostableAlert {
        PostableAlert {
            labels: webhook::labels(notice, level),
            annotations: webhook::annotations(notice),
            starts_at: notice.fired_at.to_string(),
            ends_at: if is_over { notice.resolved_at.unwrap_or(now).to_string() } else { now.plus(LASTS).to_string() },
            generator_url: webhook::link(notice, &self.external_url),
        }
    }
}

impl Transport for Alertmanager {
    fn audience(&self) -> Audience {
        Audience::Program
    }

    fn render(&self, now: Time, notices: &[Arc<Notice>]) -> Result<Vec<u8>, String> {
        let memory = self.memory();
        let posted: Vec<PostableAlert> = notices.iter().flat_map(|notice| self.posted(now, notice, &memory)).collect();
        serde_json::to_vec(&posted).map_err(|error| error.to_string())
    }

    fn send<'a>(&'a self, now: Time, notices: &'a [Arc<Notice>]) -> Sending<'a> {
        Box::pin(self.deliver(now, notices))
    }

    fn is_forgetful(&self) -> bool {
        true
    }

    fn remind<'a>(&'a self, now: Time, standing: &'a [Arc<Notice>]) -> Sending<'a> {
        Box::pin(self.tell_again(now, standing))
    }
}

/// Waits for all of `tasks` at once.
async fn join<T>(tasks: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut tasks: Vec<_> = tasks.into_iter().map(|task| (Box::pin(task), None)).collect();
    std::future::poll_fn(|context| {
        let mut is_done = true;
        for (task, outcome) in &mut tasks {
            if outcome.is_none() {
                match task.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *outcome = Some(value),
                    std::task::Poll::Pending => is_done = false,
                }
            }
        }
        if is_done { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    tasks.into_iter().filter_map(|(_, outcome)| outcome).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::receiver::Receiver;
    use crate::notify::samples::{at, firing, resolved};
    use crate::notify::transport_tests::{answering, build};

    fn sent(notices: &[Notice]) -> Vec<(String, bool)> {
        let alertmanager = Alertmanager::new(Vec::new(), "");
        let notices = notices.iter().cloned().map(Arc::new).collect::<Vec<_>>();
        let posted: serde_json::Value =
            serde_json::from_slice(&alertmanager.render(at(100.0), &notices).unwrap()).unwrap();
        let is_over = |one: &serde_json::Value| Time::parse(one["endsAt"].as_str().unwrap()).unwrap() <= at(100.0);
        let severity = |one: &serde_json::Value| one["labels"]["severity"].as_str().unwrap().to_owned();
        posted.as_array().unwrap().iter().map(|one| (severity(one), is_over(one))).collect()
    }

    #[test]
    fn a_change_of_level_ends_one_alert_and_begins_another() {
        let raised =
            Notice { kind: NoticeKind::Escalated, previous: Some(Level::Warning), ..firing("a", Level::Error, 0.0) };
        assert_eq!(sent(&[raised]), [("warning".to_owned(), true), ("error".to_owned(), false)]);
        assert_eq!(sent(&[firing("a", Level::Warning, 0.0)]), [("warning".to_owned(), false)]);
        // It ends at the level that it was sent with, whatever its last one was.
        let over = Notice { previous: Some(Level::Error), ..resolved("a", 60.0) };
        assert_eq!(sent(&[over]), [("error".to_owned(), true)]);
    }

    async fn taking() -> (Receiver, tokio::sync::mpsc::Receiver<String>) {
        let (address, posted) = answering(|_: &str| ("200 OK".to_owned(), String::new())).await;
        let urls = [format!("http://{address}/am/")];
        (build(serde_json::json!({"name": "am", "alertmanager": {"urls": urls}})), posted)
    }

    /// `severity endsAt` of each alert in what was posted, ends in seconds.
    async fn next(posted: &mut tokio::sync::mpsc::Receiver<String>) -> Vec<String> {
        let body = posted.recv().await.expect("a body");
        let body: Vec<serde_json::Value> = serde_json::from_str(&body).expect("JSON");
        let shown = |alert: &serde_json::Value| {
            let end = Time::parse(alert["endsAt"].as_str().expect("an end")).expect("a time");
            format!("{} {}", alert["labels"]["severity"].as_str().expect("a level"), end.seconds_since(at(0.0)))
        };
        body.iter().map(shown).collect()
    }

    #[tokio::test]
    async fn what_they_hold_ends_whatever_a_notice_took_for_told() {
        let (receiver, mut posted) = taking().await;
        receiver.send(at(0.0), &[Arc::new(firing("a", Level::Warning, 0.0))]).await.expect("sent");
        assert_eq!(next(&mut posted).await, ["warning 240"]);
        // The raise to `error` was on the list, and gave way to this one before it was sent.
        let raised =
            Notice { kind: NoticeKind::Escalated, previous: Some(Level::Error), ..firing("a", Level::Critical, 9.0) };
        receiver.send(at(9.0), &[Arc::new(raised)]).await.expect("sent");
        assert_eq!(next(&mut posted).await, ["warning 9", "critical 249"]);
        receiver.send(at(60.0), &[Arc::new(resolved("a", 50.0))]).await.expect("sent");
        assert_eq!(next(&mut posted).await, ["critical 50"]);
    }

    #[tokio::test]
    async fn what_lasts_is_said_again_and_an_end_for_a_quarter_of_an_hour() {
        let (receiver, mut posted) = taking().await;
        receiver.send(at(0.0), &[Arc::new(resolved("a", 0.0))]).await.expect("sent");
        assert_eq!(next(&mut posted).await, ["warning 0"]);
        let standing = [Arc::new(Notice { kind: NoticeKind::Repeat, ..firing("b", Level::Warning, 0.0) })];
        receiver.remind(at(60.0), &standing).await.expect("sent");
        assert_eq!(next(&mut posted).await, ["warning 300", "warning 0"]);
        receiver.remind(at(901.0), &standing).await.expect("sent");
        assert_eq!(next(&mut posted).await, ["warning 1141"], "no end is repeated any more");
        receiver.remind(at(961.0), &[]).await.expect("nothing to say");
        assert!(posted.try_recv().is_err());
    }

    #[tokio::test]
    async fn one_instance_that_takes_it_is_enough_and_the_other_is_named() {
        let (well, _taken) = answering(|_: &str| ("200 OK".to_owned(), String::new())).await;
        let (sick, _refused) = answering(|_: &str| ("503 X".to_owned(), String::new())).await;
        let urls = [format!("http://{sick}"), format!("http://{well}")];
        let receiver = build(serde_json::json!({"name": "am", "alertmanager": {"urls": urls}}));
        let notice = [Arc::new(firing("a", Level::Warning, 0.0))];
        let receipt = receiver.send(at(0.0), &notice).await.expect("one took it");
        assert_eq!(
            receipt.partial_failure.expect("one did not").message,
            "instance 0: alertmanager at 127.0.0.1 answered 503"
        );
    }

    #[test]
    fn an_alert_has_labels_without_values_and_times() {
        let alertmanager = Alertmanager::new(Vec::new(), "https://lookout.example/");
        let notice = firing("worker-1", Level::Warning, 0.0);
        let posted = alertmanager.one(at(0.0), &notice, notice.level, false);
        insta::assert_snapshot!(serde_json::to_string_pretty(&posted).unwrap());
    }
}
