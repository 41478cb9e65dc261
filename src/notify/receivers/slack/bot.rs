//! Slack through a bot: one message for an alert's life, edited in place as it changes, with its history in its thread.
//!
//! Alerts that were first notified together share their message for good. The message's id goes back to the
//! ledger as a reference, so that it is found again after a restart. Refuses to edit many messages for one batch: when
//! more than a few changed, a new message has all of them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::model::{
    BoundedMap, DeliveryReceipt, Fingerprint, MessageReference, Notice, NoticeKind, SendError, SendReason, Time,
};
use crate::secret::SecretSource;

use super::payload;
use crate::notify::answer::Answer;
use crate::notify::http::{exchange, read};
use crate::notify::receivers::{CHAT, Rate, Sending, Transport};
use crate::notify::settings::webhook_url;
use crate::notify::words::Words;

/// How errors name it.
const WHO: &str = "slack";
/// Most messages that are edited for one batch.
const ROOTS: usize = 3;
/// Most messages, and most alerts in them, that are remembered.
const ROOTS_REMEMBERED: usize = 1_000;
const ALERTS_REMEMBERED: usize = 20_000;
/// Errors that mean a failure of Slack itself.
const TRANSIENT: [&str; 6] =
    ["internal_error", "fatal_error", "service_unavailable", "request_timeout", "accesslimited", "team_added_to_org"];
/// Errors that reject our credentials.
const AUTH: [&str; 9] = [
    "invalid_auth",
    "not_authed",
    "account_inactive",
    "token_revoked",
    "token_expired",
    "no_permission",
    "missing_scope",
    "org_login_required",
    "ekm_access_denied",
];
/// Errors that reject the channel, and not the message.
const CHANNEL: [&str; 8] = [
    "channel_not_found",
    "not_in_channel",
    "is_archived",
    "restricted_action",
    "restricted_action_read_only_channel",
    "posting_to_general_channel_denied",
    "team_access_not_granted",
    "access_denied",
];
/// Errors that mean that a message can't be edited or replied to.
const GONE: [&str; 5] =
    ["message_not_found", "thread_not_found", "edit_window_closed", "cant_update_message", "cannot_reply_to_message"];

/// A bot that writes to one channel.
#[derive(Debug)]
pub(super) struct Bot {
    client: reqwest::Client,
    token: SecretSource,
    channel: String,
    api: String,
    deadline: Duration,
    words: Words,
    memory: Mutex<SentMessages>,
}

/// What was posted, as far as it is remembered.
#[derive(Debug)]
struct SentMessages {
    /// The notices that each message shows now.
    roots: BoundedMap<Arc<str>, BTreeMap<Fingerprint, Arc<Notice>>>,
    /// The message of each life of an alert.
    by_incident: HashMap<Arc<str>, Arc<str>>,
    /// The notices of a batch that were sent before it failed.
    done: HashSet<Arc<str>>,
}

/// Why a call failed.
#[derive(Debug)]
enum Failure {
    /// The message is not there any more, or can't be edited.
    Gone,
    /// All else.
    Other(SendError),
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        Self::Other(error)
    }
}

/// A message's name: the channel's id, its time stamp, and how many alerts it was posted for.
struct Root<'a> {
    channel: &'a str,
    ts: &'a str,
    alerts: usize,
}

impl<'a> Root<'a> {
    fn parse(reference: &'a str) -> Option<Self> {
        let mut parts = reference.split('/');
        let (channel, ts, alerts) = (parts.next()?, parts.next()?, parts.next()?.parse().ok()?);
        Some(Self { channel, ts, alerts })
    }
}

impl Default for SentMessages {
    fn default() -> Self {
        let roots = BoundedMap::new(ROOTS_REMEMBERED);
        Self { roots, by_incident: HashMap::new(), done: HashSet::new() }
    }
}

impl SentMessages {
    fn reference_of(&self, notice: &Notice) -> Option<Arc<str>> {
        let known = self.by_incident.get(&notice.incident).or(notice.reference.as_ref());
        known.filter(|reference| Root::parse(reference).is_some()).cloned()
    }

    /// Remembers that the message `reference` shows `notices` now.
    fn shows(&mut self, reference: &Arc<str>, notices: &[Arc<Notice>]) {
        for notice in notices.iter().filter(|notice| notice.kind.is_of_alert()) {
            if !self.roots.contains(reference)
                && let Some((oldest, _)) = self.roots.make_room()
            {
                self.forget(&oldest);
            }
            let root = self.roots.get_or_default(Arc::clone(reference), ());
            root.insert(notice.fingerprint, Arc::clone(notice));
            self.by_incident.insert(Arc::clone(&notice.incident), Arc::clone(reference));
        }
        while self.by_incident.len() > ALERTS_REMEMBERED
            && let Some((oldest, _)) = self.roots.pop_oldest()
        {
            self.forget(&oldest);
        }
    }

    /// Forgets which alerts the message `reference` was about.
    fn forget(&mut self, reference: &Arc<str>) {
        self.by_incident.retain(|_, of| of != reference);
    }

    /// What the message shows, once it shows `notices`: all of it when it is remembered, or when they are all of it.
    fn whole(&self, reference: &Arc<str>, notices: &[Arc<Notice>]) -> Option<Vec<Arc<Notice>>> {
        let newer = |notice: &&Arc<Notice>| !notices.iter().any(|new| new.fingerprint == notice.fingerprint);
        match self.roots.get(reference) {
            Some(root) => Some(root.values().filter(newer).chain(notices).cloned().collect()),
            None => (Root::parse(reference)?.alerts == 1).then(|| notices.to_vec()),
        }
    }
}

impl Bot {
    /// Writes to `channel` with `token`, through the API at `api`, in these words.
    pub(super) fn new(
        client: reqwest::Client,
        token: SecretSource,
        channel: String,
        api: String,
        deadline: Duration,
        words: Words,
    ) -> Self {
        Self { client, token, channel, api, deadline, words, memory: Mutex::default() }
    }

    fn memory(&self) -> MutexGuard<'_, SentMessages> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends `notices`: what is new in one message, what changed by editing the messages that show it.
    ///
    /// What was sent before a call fails is not sent again by the next attempt.
    async fn deliver(&self, now: Time, notices: &[Arc<Notice>]) -> Result<DeliveryReceipt, SendError> {
        let mut fresh: Vec<Arc<Notice>> = Vec::new();
        let mut known: BTreeMap<Arc<str>, Vec<Arc<Notice>>> = BTreeMap::new();
        {
            let memory = self.memory();
            for notice in notices.iter().filter(|notice| !memory.done.contains(&notice.key)) {
                match memory.reference_of(notice).filter(|_| notice.kind.is_of_alert()) {
                    Some(reference) => known.entry(reference).or_default().push(Arc::clone(notice)),
                    None => fresh.push(Arc::clone(notice)),
                }
            }
        }
        if known.len() > ROOTS {
            fresh.extend(std::mem::take(&mut known).into_values().flatten());
        }
        self.post_root(now, &fresh).await?;
        for (reference, notices) in known {
            match self.change(now, &reference, &notices).await {
                Ok(()) => {}
                Err(Failure::Gone) => self.post_root(now, &notices).await?,
                Err(Failure::Other(error)) => return Err(error),
            }
        }
        let mut memory = self.memory();
        for notice in notices {
            memory.done.remove(&notice.key);
        }
        let firing = notices.iter().filter(|notice| notice.kind.is_of_alert() && notice.kind.is_firing());
        let references = firing.filter_map(|notice| {
            let (fingerprint, incident) = (notice.fingerprint, Arc::clone(&notice.incident));
            Some(MessageReference { fingerprint, incident, name: memory.reference_of(notice)? })
        });
        let references = references.collect();
        // The next life of an alert has a message of its own.
        for notice in notices.iter().filter(|notice| notice.kind == NoticeKind::Resolved) {
            memory.by_incident.remove(&notice.incident);
        }
        Ok(DeliveryReceipt { references, partial_failure: None })
    }

    /// Posts a message with `notices`, unless there are none.
    async fn post_root(&self, now: Time, notices: &[Arc<Notice>]) -> Result<(), SendError> {
        if notices.is_empty() {
            return Ok(());
        }
        let mut body = payload::content(&self.words.compose(now, notices));
        set(&mut body, "channel", json!(self.channel));
        let answer = match self.call(now, "chat.postMessage", &body).await {
            Ok(answer) => answer,
            Err(Failure::Other(error)) => return Err(error),
            Err(Failure::Gone) => {
                return Err(SendError::permanent(SendReason::Refused, "slack can't post the message".to_owned()));
            }
        };
        let word = |name: &str| answer.get(name).and_then(Value::as_str).filter(|word| is_id(word));
        let mut memory = self.memory();
        if let (Some(channel), Some(ts)) = (word("channel"), word("ts")) {
            let alerts = notices.iter().filter(|notice| notice.kind.is_of_alert()).count();
            memory.shows(&Arc::from(format!("{channel}/{ts}/{alerts}")), notices);
        }
        memory.done.extend(notices.iter().map(|notice| Arc::clone(&notice.key)));
        Ok(())
    }

    /// Edits the message `reference` and adds to its thread.
    async fn change(&self, now: Time, reference: &Arc<str>, notices: &[Arc<Notice>]) -> Result<(), Failure> {
        let Some(root) = Root::parse(reference) else { return Err(Failure::Gone) };
        let whole = self.memory().whole(reference, notices);
        if let Some(whole) = whole {
            let mut body = payload::content(&self.words.compose(now, &whole));
            set(&mut body, "channel", json!(root.channel));
            set(&mut body, "ts", json!(root.ts));
            self.call(now, "chat.update", &body).await?;
        }
        let mut body = payload::content(&self.words.compose(now, notices));
        set(&mut body, "channel", json!(root.channel));
        set(&mut body, "thread_ts", json!(root.ts));
        // Slack notifies no one of an edit: what wakes people is shown in the channel as well.
        let wakes = |notice: &Arc<Notice>| matches!(notice.kind, NoticeKind::Escalated | NoticeKind::Repeat);
        set(&mut body, "reply_broadcast", json!(notices.iter().any(wakes)));
        self.call(now, "chat.postMessage", &body).await?;
        let mut memory = self.memory();
        memory.shows(reference, notices);
        memory.done.extend(notices.iter().map(|notice| Arc::clone(&notice.key)));
        Ok(())
    }

    async fn call(&self, now: Time, method: &str, body: &Value) -> Result<Value, Failure> {
        let token = read(&self.token).await?;
        let url = webhook_url(&format!("{}/{method}", self.api.trim_end_matches('/')))
            .map_err(|problem| SendError::transient(SendReason::Secret, format!("slack.api_url {problem}")))?;
        let request = self.client.post(url).header(reqwest::header::CONTENT_TYPE, "application/json; charset=utf-8");
        let request = request.bearer_auth(token.expose()).body(body.to_string());
        meaning(method, &exchange(WHO, now, self.deadline, request).await?)
    }
}

impl Transport for Bot {
    fn rate(&self) -> Option<Rate> {
        CHAT
    }

    /// Within one message's room, and within few messages.
    fn fitting(&self, _now: Time, notices: &[&Notice]) -> usize {
        let room = payload::fitting(notices);
        let (memory, mut roots) = (self.memory(), HashSet::new());
        for (place, notice) in notices.iter().take(room).enumerate() {
            roots.extend(memory.reference_of(notice));
            if roots.len() > ROOTS {
                return place;
            }
        }
        room
    }

    /// The body of the request with `notices` in a message of their own, but for its channel.
    fn render(&self, now: Time, notices: &[Arc<Notice>]) -> Result<Vec<u8>, String> {
        Ok(payload::render(&self.words.compose(now, notices)).into_bytes())
    }

    fn send<'a>(&'a self, now: Time, notices: &'a [Arc<Notice>]) -> Sending<'a> {
        Box::pin(self.deliver(now, notices))
    }
}

/// What an answer means: its status, then `ok`, then the word in `error`. A success that breaks off is one whose
/// message has no name.
fn meaning(method: &str, answer: &Answer) -> Result<Value, Failure> {
    answer.accepted_status(WHO)?;
    let body = answer.json();
    if body.get("ok") == Some(&Value::Bool(true)) || (!answer.is_complete && body.is_null()) {
        return Ok(body);
    }
    let Some(word) = body.get("error").and_then(Value::as_str).filter(|word| is_word(word)) else {
        return Err(SendError::transient(
            SendReason::Server,
            format!("{} answered {method} without ok", answer.who(WHO)),
        )
        .into());
    };
    let message = format!("{} answered {method} with {word}", answer.who(WHO));
    Err(match word {
        word if GONE.contains(&word) => Failure::Gone,
        "ratelimited" | "rate_limited" => {
            SendError::transient(SendReason::RateLimited, message).after(answer.retry_after).into()
        }
        word if TRANSIENT.contains(&word) => SendError::transient(SendReason::Server, message).into(),
        word if AUTH.contains(&word) => SendError::limited(SendReason::Auth, message).into(),
        word if CHANNEL.contains(&word) => SendError::limited(SendReason::Refused, message).into(),
        _ => SendError::permanent(SendReason::Refused, message).into(),
    })
}

/// Whether it is one of Slack's words, and nothing that could be a secret.
fn is_word(word: &str) -> bool {
    !word.is_empty() && word.len() <= 60 && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// Whether it can be part of a reference.
fn is_id(word: &str) -> bool {
    !word.is_empty() && word.len() <= 40 && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.')
}

fn set(body: &mut Value, name: &str, value: Value) {
    if let Some(fields) = body.as_object_mut() {
        fields.insert(name.to_owned(), value);
    }
}

#[cfg(test)]
mod tests;
