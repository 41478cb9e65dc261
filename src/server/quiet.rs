//! Silences, acknowledgements and explanations over HTTP.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use http::{Request, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Shared;
use super::access::Caller;
use super::connections::Connection;
use super::error::{Refusal, json as json_answer};
use crate::alerts::timeline;
use crate::engine::SilenceError;
use crate::model::{Fingerprint, Matchers, Silence, Time, TimelineEntry, TimelineEvent, WallClock, duration};
use crate::text;

/// Longest name of a person, and longest comment, in bytes.
const NAME_LIMIT: usize = 100;
const COMMENT_LIMIT: usize = 1_000;
/// Longest id of a silence, in bytes.
const ID_LIMIT: usize = 64;

/// `POST /api/silences`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// That of a silence to change.
    id: Option<String>,
    matchers: BTreeMap<String, String>,
    duration: Option<String>,
    starts_at: Option<String>,
    ends_at: Option<String>,
    created_by: Option<String>,
    comment: Option<String>,
}

/// `POST /api/alerts/{fingerprint}/ack`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Acknowledgement {
    #[serde(alias = "created_by")]
    by: Option<String>,
    comment: Option<String>,
}

fn bad(message: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, message.into())
}

impl From<SilenceError> for Refusal {
    fn from(error: SilenceError) -> Self {
        let status = match error {
            SilenceError::Unknown(_) => StatusCode::NOT_FOUND,
            SilenceError::Invalid(_) => StatusCode::BAD_REQUEST,
            SilenceError::TooMany | SilenceError::Pending(_) => StatusCode::CONFLICT,
        };
        Self::new(status, error.to_string())
    }
}

pub(super) async fn list(State(shared): State<Shared>) -> Result<Response, Refusal> {
    let silences = shared.context.engine.silences().await?;
    let (now, wall) = (shared.context.clock.now(), shared.context.clock.wall_clock());
    let shown: Vec<Value> = silences.iter().map(|silence| view(silence, now, &wall)).collect();
    Ok(json_answer(StatusCode::OK, json!({"silences": shown, "total": silences.len()}).to_string()))
}

pub(super) async fn begin(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    request: Request<axum::body::Body>,
) -> Result<Response, Refusal> {
    let body = shared.context.bodies.read(request).await?;
    let wanted: Wanted = serde_json::from_slice(&body).map_err(|error| bad(format!("the body: {error}")))?;
    let (now, wall) = (shared.context.clock.now(), shared.context.clock.wall_clock());
    let silence = silence(wanted, &caller, now, &wall).map_err(bad)?;
    let shown = view(&silence, now, &wall);
    shared.context.engine.silence(silence).await??;
    Ok(json_answer(StatusCode::OK, shown.to_string()))
}

pub(super) async fn end(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    shared.context.engine.unsilence(text::clean(&id, ID_LIMIT).into_owned(), caller.name(None)).await??;
    Ok(json_answer(StatusCode::OK, json!({"ended": true}).to_string()))
}

pub(super) async fn acknowledge(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(fingerprint): Path<String>,
    request: Request<axum::body::Body>,
) -> Result<Response, Refusal> {
    let fingerprint = parse(&fingerprint)?;
    let is_empty = http_body::Body::is_end_stream(request.body());
    let said = if is_empty {
        Acknowledgement::default()
    } else {
        let body = shared.context.bodies.read(request).await?;
        serde_json::from_slice(&body).map_err(|error| bad(format!("the body: {error}")))?
    };
    let by = caller.name(said.by.as_deref().map(|by| text::clean(by, NAME_LIMIT)).as_deref());
    let comment = text::clean(said.comment.as_deref().unwrap_or_default(), COMMENT_LIMIT).into_owned();
    match shared.context.engine.acknowledge(fingerprint, by.clone(), comment).await? {
        Err(SilenceError::Unknown(_)) => return Err(gone(fingerprint, &shared).await),
        done => done?,
    }
    Ok(json_answer(StatusCode::OK, json!({"acked_by": by}).to_string()))
}

/// Why an alert that is not there can't be acknowledged: it is over, or it never was.
async fn gone(fingerprint: Fingerprint, shared: &Shared) -> Refusal {
    let timeline = (shared.context.timeline)(fingerprint).await;
    let over = timeline.iter().rev().find(|decision| matches!(decision.event, TimelineEvent::Resolved { .. }));
    match over {
        Some(over) => {
            let at = shared.context.clock.wall_clock().to_wall(over.at);
            Refusal::new(
                StatusCode::CONFLICT,
                format!("alert {fingerprint} resolved at {at}; there is nothing left to acknowledge"),
            )
        }
        None => Refusal::new(StatusCode::NOT_FOUND, format!("there is no firing alert {fingerprint}")),
    }
}

pub(super) async fn why(
    State(shared): State<Shared>,
    Extension(reader): Extension<Connection>,
    Path(fingerprint): Path<String>,
) -> Result<Response, Refusal> {
    let fingerprint = parse(&fingerprint)?;
    let explanation = shared.context.engine.explain(fingerprint).await?;
    let timeline = (shared.context.timeline)(fingerprint).await;
    if explanation.is_none() && timeline.is_empty() {
        return Err(Refusal::new(StatusCode::NOT_FOUND, format!("nothing is known of an alert {fingerprint}")));
    }
    let (alert, receivers) = match explanation {
        Some(explanation) => (json!(explanation.alert), json!(explanation.receivers)),
        None => (Value::Null, json!([])),
    };
    let wall = shared.context.clock.wall_clock();
    let timeline: Vec<Value> = timeline.iter().map(|decision| entry(decision, &wall)).collect();
    let answer = json!({"alert": alert, "receivers": receivers, "timeline": timeline});
    shared.sending.json(&reader, move || answer.to_string()).await
}

/// An entry of a timeline: all of it, with its time as people write it and a sentence.
fn entry(decision: &TimelineEntry, wall: &WallClock) -> Value {
    let mut entry = json!(decision);
    if let Some(entry) = entry.as_object_mut() {
        entry.remove("fingerprint");
        entry.insert("at".to_owned(), json!(wall.to_wall(decision.at).to_string()));
        entry.insert("text".to_owned(), json!(timeline::sentence(decision)));
    }
    entry
}

fn view(silence: &Silence, now: Time, wall: &WallClock) -> Value {
    json!({
        "id": silence.id,
        "matchers": silence.matchers,
        "starts_at": wall.to_wall(silence.starts_at).to_string(),
        "ends_at": wall.to_wall(silence.ends_at).to_string(),
        "created_by": silence.created_by,
        "comment": silence.comment,
        "active": silence.is_active(now),
    })
}

fn parse(fingerprint: &str) -> Result<Fingerprint, Refusal> {
    Fingerprint::parse(fingerprint).ok_or_else(|| {
        let shown = text::clean(fingerprint, 50);
        bad(format!("`{shown}` is not a fingerprint; it has 16 hex digits, as /api/alerts shows"))
    })
}

/// The silence that is wanted; the error says what is wrong with it.
fn silence(wanted: Wanted, caller: &Caller, now: Time, wall: &WallClock) -> Result<Silence, String> {
    let time = |key: &str, text: &str| {
        let shown = text::clean(text, 50).into_owned();
        let time = Time::parse(text).map(|said| wall.from_wall(said));
        time.ok_or_else(|| format!("{key} `{shown}` is not a time; write it like 2026-11-21T02:00:00Z"))
    };
    let starts_at = wanted.starts_at.map_or(Ok(now), |text| time("starts_at", &text))?.max(now);
    let ends_at = match (wanted.duration, wanted.ends_at) {
        (Some(length), None) => {
            let length: Duration = duration::parse(text::clean(&length, 50).as_ref())?;
            starts_at.plus(length)
        }
        (None, Some(text)) => time("ends_at", &text)?,
        _ => return Err("a silence needs an end: give `duration`, like 2h, or `ends_at`".to_owned()),
    };
    let pairs = wanted.matchers.iter().map(|(label, pattern)| (&**label, &**pattern));
    let id = match wanted.id {
        Some(id) if text::is_name(&id, ID_LIMIT) => id,
        Some(_) => return Err(format!("`id` is not one; it has 1 to {ID_LIMIT} visible bytes")),
        None => new_id().ok_or("no randomness for an id; try again")?,
    };
    Ok(Silence {
        id: Arc::from(id),
        matchers: Matchers::parse(pairs)?,
        starts_at,
        ends_at,
        created_by: Arc::from(
            caller.name(wanted.created_by.as_deref().map(|by| text::clean(by, NAME_LIMIT)).as_deref()),
        ),
        comment: Arc::from(text::clean(wanted.comment.as_deref().unwrap_or_default(), COMMENT_LIMIT)),
    })
}

/// Eight random bytes in hex.
fn new_id() -> Option<String> {
    let mut bytes = [0; 8];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes).ok()?;
    Some(hex::encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(json: Value) -> Result<Silence, String> {
        let wanted = serde_json::from_value(json).map_err(|error| error.to_string())?;
        silence(wanted, &Caller::default(), Time::from_millis(1_000_000_000_000), &WallClock::default())
    }

    #[test]
    fn a_silence_has_matchers_an_end_and_an_author() {
        let silence = wanted(json!({"matchers": {"rule": "AgentIdle", "agent_name": "worker-*"}, "duration": "2h", "created_by": "ann", "comment": "planned\u{7}"})).unwrap();
        assert_eq!(silence.ends_at.since(silence.starts_at), Duration::from_secs(7_200));
        assert_eq!((&*silence.created_by, &*silence.comment, silence.id.len()), ("ann", "planned", 16));
        for (json, message) in [
            (json!({"matchers": {}, "duration": "2h"}), "no matcher"),
            (json!({"matchers": {"rule": "R"}}), "needs an end"),
            (json!({"matchers": {"rule": "R"}, "duration": "2h", "ends_at": "2026-11-21T02:00:00Z"}), "needs an end"),
            (json!({"matchers": {"rule": "R"}, "duration": "soon"}), "`soon` is not a duration"),
            (json!({"matchers": {"rule": "R"}, "ends_at": "soon"}), "ends_at `soon` is not a time"),
            (json!({"matchers": {"agent": "R"}, "duration": "2h"}), "the nearest is agent_name"),
            (json!({"matchers": {"rule": "R"}, "duration": "2h", "until": "x"}), "unknown field `until`"),
            (json!({"matchers": {"rule": "R"}, "duration": "2h", "id": "a\nb"}), "`id` is not one"),
        ] {
            let error = wanted(json.clone()).unwrap_err();
            assert!(error.contains(message), "{json}: {error}");
        }
    }
}
