//! Handlers of silences, acknowledgements and alert timelines.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use http::{Request, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::HandlerState;
use super::access::Caller;
use super::connections::Connection;
use super::error::{ApiError, json as json_answer};
use crate::alerts::timeline;
use crate::engine::SilenceError;
use crate::model::{Fingerprint, Matchers, Silence, Time, TimelineEntry, TimelineEvent, WallClock, duration};
use crate::text;

/// Maximum length of a name and of a comment, in bytes.
const NAME_LIMIT: usize = 100;
const COMMENT_LIMIT: usize = 1_000;
/// Maximum length of a silence id, in bytes.
const ID_LIMIT: usize = 64;

/// The body of `POST /api/silences`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SilenceRequest {
    /// The id of an existing silence, to change it.
    id: Option<String>,
    matchers: BTreeMap<String, String>,
    duration: Option<String>,
    starts_at: Option<String>,
    ends_at: Option<String>,
    created_by: Option<String>,
    comment: Option<String>,
}

/// The body of `POST /api/alerts/{fingerprint}/ack`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct AckRequest {
    #[serde(alias = "created_by")]
    by: Option<String>,
    comment: Option<String>,
}

fn bad(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, message.into())
}

impl From<SilenceError> for ApiError {
    fn from(error: SilenceError) -> Self {
        let status = match error {
            SilenceError::Unknown(_) => StatusCode::NOT_FOUND,
            SilenceError::Invalid(_) => StatusCode::BAD_REQUEST,
            SilenceError::TooMany | SilenceError::Pending(_) => StatusCode::CONFLICT,
        };
        Self::new(status, error.to_string())
    }
}

pub(super) async fn list(State(shared): State<HandlerState>) -> Result<Response, ApiError> {
    let silences = shared.context.engine.silences().await?;
    let (now, wall) = (shared.context.clock.now(), shared.context.clock.wall_clock());
    let shown: Vec<Value> = silences.iter().map(|silence| view(silence, now, &wall)).collect();
    Ok(json_answer(StatusCode::OK, json!({"silences": shown, "total": silences.len()}).to_string()))
}

pub(super) async fn create(
    State(shared): State<HandlerState>,
    Extension(caller): Extension<Caller>,
    request: Request<axum::body::Body>,
) -> Result<Response, ApiError> {
    let body = shared.context.bodies.read(request).await?;
    let request: SilenceRequest =
        serde_json::from_slice(&body).map_err(|error| bad(format!("invalid body: {error}")))?;
    let (now, wall) = (shared.context.clock.now(), shared.context.clock.wall_clock());
    let silence = silence(request, &caller, now, &wall).map_err(bad)?;
    let shown = view(&silence, now, &wall);
    shared.context.engine.silence(silence).await??;
    Ok(json_answer(StatusCode::OK, shown.to_string()))
}

/// The body of `POST /api/silences/preview`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PreviewRequest {
    matchers: BTreeMap<String, String>,
}

/// `POST /api/silences/preview`: what a silence would cover of the alerts there are. Changes nothing.
pub(super) async fn preview(
    State(shared): State<HandlerState>,
    request: Request<axum::body::Body>,
) -> Result<Response, ApiError> {
    let body = shared.context.bodies.read(request).await?;
    let request: PreviewRequest =
        serde_json::from_slice(&body).map_err(|error| bad(format!("invalid body: {error}")))?;
    let pairs = request.matchers.iter().map(|(label, pattern)| (&**label, &**pattern));
    let matchers = Matchers::parse(pairs).map_err(bad)?;
    let covered = shared.context.engine.covered_alerts(matchers).await?;
    let examples: Vec<String> = covered
        .examples
        .iter()
        .map(|(rule, subject)| match subject.project() {
            Some(project) if **project != **subject.name() => format!("{rule} of {project}/{}", subject.name()),
            _ => format!("{rule} of {}", subject.name()),
        })
        .collect();
    let counted = |count: usize, word: &str| format!("{count} alert{} {word}", if count == 1 { "" } else { "s" });
    let pending = if covered.pending > 0 { format!(" and {} pending", covered.pending) } else { String::new() };
    let rest = covered.firing + covered.pending - examples.len();
    let rest = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    let named = if examples.is_empty() { String::new() } else { format!(" ({}{rest})", examples.join(", ")) };
    let firing = counted(covered.firing, if covered.firing == 1 { "that fires" } else { "that fire" });
    let text = format!("Covers {firing}{pending} now{named}, and those to come.");
    let answer = json!({"firing": covered.firing, "pending": covered.pending, "examples": examples, "text": text});
    Ok(json_answer(StatusCode::OK, answer.to_string()))
}

pub(super) async fn expire(
    State(shared): State<HandlerState>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    shared.context.engine.unsilence(text::clean(&id, ID_LIMIT).into_owned(), caller.name(None)).await??;
    Ok(json_answer(StatusCode::OK, json!({"ended": true}).to_string()))
}

pub(super) async fn acknowledge(
    State(shared): State<HandlerState>,
    Extension(caller): Extension<Caller>,
    Path(fingerprint): Path<String>,
    request: Request<axum::body::Body>,
) -> Result<Response, ApiError> {
    let fingerprint = parse(&fingerprint)?;
    let is_empty = http_body::Body::is_end_stream(request.body());
    let request = if is_empty {
        AckRequest::default()
    } else {
        let body = shared.context.bodies.read(request).await?;
        serde_json::from_slice(&body).map_err(|error| bad(format!("invalid body: {error}")))?
    };
    let by = caller.name(request.by.as_deref().map(|by| text::clean(by, NAME_LIMIT)).as_deref());
    let comment = text::clean(request.comment.as_deref().unwrap_or_default(), COMMENT_LIMIT).into_owned();
    match shared.context.engine.acknowledge(fingerprint, by.clone(), comment).await? {
        Err(SilenceError::Unknown(_)) => return Err(not_acknowledgeable(fingerprint, &shared).await),
        done => done?,
    }
    Ok(json_answer(StatusCode::OK, json!({"acked_by": by}).to_string()))
}

/// The error for an alert that is not active: it is resolved, or unknown.
async fn not_acknowledgeable(fingerprint: Fingerprint, shared: &HandlerState) -> ApiError {
    let timeline = (shared.context.timeline)(fingerprint).await;
    let resolved = timeline.iter().rev().find(|decision| matches!(decision.event, TimelineEvent::Resolved { .. }));
    match resolved {
        Some(resolved) => {
            let at = shared.context.clock.wall_clock().to_wall(resolved.at);
            ApiError::new(StatusCode::CONFLICT, format!("alert {fingerprint} is not firing any more: resolved at {at}"))
        }
        None => ApiError::new(StatusCode::NOT_FOUND, format!("unknown alert {fingerprint}")),
    }
}

pub(super) async fn why(
    State(shared): State<HandlerState>,
    Extension(reader): Extension<Connection>,
    Path(fingerprint): Path<String>,
) -> Result<Response, ApiError> {
    let fingerprint = parse(&fingerprint)?;
    let explanation = shared.context.engine.explain(fingerprint).await?;
    let timeline = (shared.context.timeline)(fingerprint).await;
    if explanation.is_none() && timeline.is_empty() {
        return Err(ApiError::new(StatusCode::NOT_FOUND, format!("unknown alert {fingerprint}")));
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

/// An entry of a timeline with its time in RFC 3339 and a sentence.
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

fn parse(fingerprint: &str) -> Result<Fingerprint, ApiError> {
    Fingerprint::parse(fingerprint).ok_or_else(|| {
        let shown = text::clean(fingerprint, 50);
        bad(format!("invalid fingerprint `{shown}`; use the 16 hex digits that /api/alerts shows"))
    })
}

/// The requested silence, or what is wrong with the request.
fn silence(request: SilenceRequest, caller: &Caller, now: Time, wall: &WallClock) -> Result<Silence, String> {
    let time = |key: &str, text: &str| {
        let shown = text::clean(text, 50).into_owned();
        let time = Time::parse(text).map(|time| wall.from_wall(time));
        time.ok_or_else(|| format!("invalid {key} `{shown}`; use a time such as 2026-11-21T02:00:00Z"))
    };
    let starts_at = request.starts_at.map_or(Ok(now), |text| time("starts_at", &text))?.max(now);
    let ends_at = match (request.duration, request.ends_at) {
        (Some(length), None) => {
            let length: Duration = duration::parse(text::clean(&length, 50).as_ref())?;
            starts_at.plus(length)
        }
        (None, Some(text)) => time("ends_at", &text)?,
        _ => return Err("set either `duration`, such as 2h, or `ends_at`".to_owned()),
    };
    let pairs = request.matchers.iter().map(|(label, pattern)| (&**label, &**pattern));
    let id = match request.id {
        Some(id) if text::is_name(&id, ID_LIMIT) => id,
        Some(_) => return Err(format!("invalid `id`; use 1 to {ID_LIMIT} visible bytes")),
        None => new_id().ok_or("the system has no random numbers for an id; try again")?,
    };
    Ok(Silence {
        id: Arc::from(id),
        matchers: Matchers::parse(pairs)?,
        starts_at,
        ends_at,
        created_by: Arc::from(
            caller.name(request.created_by.as_deref().map(|by| text::clean(by, NAME_LIMIT)).as_deref()),
        ),
        comment: Arc::from(text::clean(request.comment.as_deref().unwrap_or_default(), COMMENT_LIMIT)),
    })
}

/// Eight random bytes as hex digits.
fn new_id() -> Option<String> {
    let mut bytes = [0; 8];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes).ok()?;
    Some(hex::encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(json: Value) -> Result<Silence, String> {
        let request = serde_json::from_value(json).map_err(|error| error.to_string())?;
        silence(request, &Caller::default(), Time::from_millis(1_000_000_000_000), &WallClock::default())
    }

    #[test]
    fn a_silence_has_matchers_an_end_and_an_author() {
        let silence = parsed(json!({"matchers": {"rule": "AgentIdle", "agent_name": "worker-*"}, "duration": "2h", "created_by": "ann", "comment": "planned\u{7}"})).unwrap();
        assert_eq!(silence.ends_at.since(silence.starts_at), Duration::from_secs(7_200));
        assert_eq!((&*silence.created_by, &*silence.comment, silence.id.len()), ("ann", "planned", 16));
        for (json, message) in [
            (json!({"matchers": {}, "duration": "2h"}), "no matcher"),
            (json!({"matchers": {"rule": "R"}}), "set either `duration`"),
            (
                json!({"matchers": {"rule": "R"}, "duration": "2h", "ends_at": "2026-11-21T02:00:00Z"}),
                "set either `duration`",
            ),
            (json!({"matchers": {"rule": "R"}, "duration": "soon"}), "`soon` is not a duration"),
            (json!({"matchers": {"rule": "R"}, "ends_at": "soon"}), "invalid ends_at `soon`"),
            (json!({"matchers": {"agent": "R"}, "duration": "2h"}), "the nearest is agent_name"),
            (json!({"matchers": {"rule": "R"}, "duration": "2h", "until": "x"}), "unknown field `until`"),
            (json!({"matchers": {"rule": "R"}, "duration": "2h", "id": "a\nb"}), "invalid `id`"),
        ] {
            let error = parsed(json.clone()).unwrap_err();
            assert!(error.contains(message), "{json}: {error}");
        }
    }
}
