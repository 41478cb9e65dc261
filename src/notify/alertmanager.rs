//! Alertmanager as a receiver: every instance is told, again each minute while an alert lasts, and of its end.
//!
//! Severity is part of an alert's identity there, so a change of level is the end of one and the beginning of another.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::http::Http;
use super::{labels, webhook};
use crate::model::{Fingerprint, Level, Notice, NoticeKind, SendError, Time};

/// How long after it was last told an alert lasts there: four reminders, as Prometheus does it.
const LASTS: Duration = Duration::from_secs(240);
/// How long the end of an alert is said again, for an instance that was away.
const OVER_AGAIN: Duration = Duration::from_secs(900);
/// Ends that are said again at most.
const ENDS: usize = 20_000;
/// Alerts that one request carries.
const CHUNK: usize = 1_000;

/// Every instance of one Alertmanager.
#[derive(Debug)]
pub(super) struct Alertmanager {
    instances: Vec<Http>,
    external_url: String,
    /// Ends to say again, and until when.
    ended: Mutex<HashMap<Fingerprint, (Posted, Time)>>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Posted {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL", skip_serializing_if = "String::is_empty")]
    generator_url: String,
}

impl Alertmanager {
    /// Posts to all of `instances`; `external_url` is where we are found by others.
    pub(super) fn new(instances: Vec<Http>, external_url: String) -> Self {
        Self { instances, external_url, ended: Mutex::default() }
    }

    /// The same with another deadline, for tests of a receiver that hangs.
    #[cfg(test)]
    pub(super) fn with_deadline(mut self, deadline: Duration) -> Self {
        self.instances = self.instances.into_iter().map(|http| http.with_deadline(deadline)).collect();
        self
    }

    /// The bytes of the request that tells `notices`.
    pub(super) fn render(&self, now: Time, notices: &[Arc<Notice>]) -> String {
        let posted: Vec<Posted> = notices.iter().flat_map(|notice| self.posted(now, notice)).collect();
        serde_json::to_string(&posted).unwrap_or_default()
    }

    /// Tells `notices` to every instance; it is done when one of them has them all.
    pub(super) async fn send(&self, now: Time, notices: &[Arc<Notice>]) -> Result<(), SendError> {
        {
            let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            for notice in notices {
                if notice.kind == NoticeKind::Resolved && ended.len() < ENDS {
                    let posted = self.one(now, notice, notice.previous.unwrap_or(notice.level), true);
                    ended.insert(notice.fingerprint, (posted, now.plus(OVER_AGAIN)));
                } else {
                    ended.remove(&notice.fingerprint);
                }
            }
        }
        let posted = notices.iter().flat_map(|notice| self.posted(now, notice)).collect();
        self.post(now, posted, &webhook::key(notices)).await
    }

    /// Says again what lasts, and what ended lately.
    pub(super) async fn remind(&self, now: Time, standing: &[Arc<Notice>]) -> Result<(), SendError> {
        let mut posted: Vec<Posted> =
            standing.iter().map(|notice| self.one(now, notice, notice.level, false)).collect();
        {
            let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            ended.retain(|_, (_, until)| *until > now);
            posted.extend(ended.values().map(|(posted, _)| posted.clone()));
        }
        if posted.is_empty() { Ok(()) } else { self.post(now, posted, &format!("reminder-{}", now.as_millis())).await }
    }

    async fn post(&self, now: Time, posted: Vec<Posted>, key: &str) -> Result<(), SendError> {
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
        let mut outcome = Ok(());
        let mut is_told = false;
        for (place, result) in join(tasks).await.into_iter().enumerate() {
            match result {
                Ok(()) => is_told = true,
                Err(error) => {
                    tracing::warn!(instance = place, %error, "an instance of Alertmanager was not told");
                    outcome = Err(error);
                }
            }
        }
        if is_told { Ok(()) } else { outcome }
    }

    /// What a notice comes to: what begins or lasts, and what ended.
    fn posted(&self, now: Time, notice: &Notice) -> Vec<Posted> {
        let before = notice.previous.filter(|previous| *previous != notice.level);
        if notice.kind == NoticeKind::Resolved {
            return vec![self.one(now, notice, notice.previous.unwrap_or(notice.level), true)];
        }
        let ended = before.map(|previous| self.one(now, notice, previous, true));
        ended.into_iter().chain([self.one(now, notice, notice.level, false)]).collect()
    }

    fn one(&self, now: Time, notice: &Notice, level: Level, is_over: bool) -> Posted {
        Posted {
            labels: labels::of(notice, level),
            annotations: labels::annotations(notice),
            starts_at: notice.fired_at.to_string(),
            ends_at: if is_over { notice.resolved_at.unwrap_or(now).to_string() } else { now.plus(LASTS).to_string() },
            generator_url: labels::link(notice, &self.external_url),
        }
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
    use super::super::samples::{at, firing, resolved};
    use super::*;

    fn told(notices: &[Notice]) -> Vec<(String, bool)> {
        let alertmanager = Alertmanager::new(Vec::new(), String::new());
        let notices = notices.iter().cloned().map(Arc::new).collect::<Vec<_>>();
        let posted: serde_json::Value = serde_json::from_str(&alertmanager.render(at(100.0), &notices)).unwrap();
        let is_over = |one: &serde_json::Value| Time::parse(one["endsAt"].as_str().unwrap()).unwrap() <= at(100.0);
        let severity = |one: &serde_json::Value| one["labels"]["severity"].as_str().unwrap().to_owned();
        posted.as_array().unwrap().iter().map(|one| (severity(one), is_over(one))).collect()
    }

    #[test]
    fn a_change_of_level_ends_one_alert_and_begins_another() {
        let raised =
            Notice { kind: NoticeKind::Raised, previous: Some(Level::Warning), ..firing("a", Level::Error, 0.0) };
        assert_eq!(told(&[raised]), [("warning".to_owned(), true), ("error".to_owned(), false)]);
        assert_eq!(told(&[firing("a", Level::Warning, 0.0)]), [("warning".to_owned(), false)]);
        // It ends at the level that it was told with, whatever its last one was.
        let over = Notice { previous: Some(Level::Error), ..resolved("a", 60.0) };
        assert_eq!(told(&[over]), [("error".to_owned(), true)]);
    }

    #[test]
    fn an_alert_has_labels_without_values_and_times() {
        let alertmanager = Alertmanager::new(Vec::new(), "https://lookout.example/".to_owned());
        let notice = firing("worker-1", Level::Warning, 0.0);
        let posted = alertmanager.one(at(0.0), &notice, notice.level, false);
        insta::assert_snapshot!(serde_json::to_string_pretty(&posted).unwrap());
    }
}
