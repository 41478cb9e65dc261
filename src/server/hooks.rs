//! Hooks: answered at once, since the agent waits for it.
//!
//! The answer is empty, and 204 whatever becomes of the hook: it must never tell an agent what to do, nor stop one whose
//! sidecar has too much to do. Only who may not post, or posts no JSON at all, is told so. An agent that has used up a
//! budget with `action: stop` is answered with the order to stop, unless the engine has no room for its hook.

use std::sync::Arc;

use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri};

use super::Context;
use super::connections::Arriving;
use super::error::{Refusal, json as json_answer};
use crate::ingest::hooks::{HookError, HookEvent, HookTool};
use crate::metrics::Own;
use crate::model::{Hook, InputKind, RejectReason};
use crate::profiles::identity::SenderIdentity;

/// Headers that say what parameters of the address may say as well.
const HEADERS: [(&str, &str); 2] = [("x-lookout-agent", "agent"), ("x-lookout-project", "project")];

/// Answers a hook of `tool`.
pub(super) async fn answer(context: &Context, tool: &'static HookTool, request: Request<Arriving>) -> Response {
    let sender = sender(request.uri(), request.headers());
    settle(&context.own, read(context, tool, request).await, |event| {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                tracing::debug!(error = %error, "hook rejected");
                return Done::Rejected;
            }
        };
        let agent = sender.identify_hook_agent(&context.agent_rules.borrow(), tool.name, event.cwd.as_deref());
        let orders = Arc::clone(&context.stop_orders.borrow());
        let order = event.moment.and_then(|moment| Some((moment, orders.order((&agent.0, &agent.1), moment)?)));
        let answer = order.map(|(moment, stop)| (tool.stop)(moment, &format!("{} {}", agent.1, stop.why)));
        let stop = order.map(|(_, stop)| stop.clone());
        hand_over(event.into_hook(tool, agent, stop), answer, |hook| context.engine.hook(hook))
    })
}

async fn read(
    context: &Context,
    tool: &'static HookTool,
    request: Request<Arriving>,
) -> Result<Result<HookEvent, HookError>, Refusal> {
    let body = context.bodies.read(request).await?;
    let now = context.clock.wall();
    let (event, _turn) = context.bodies.decode(body, move |body| tool.decode(&body, now)).await?;
    Ok(event)
}

/// Hands a hook over, and stops its sender only when that succeeded: nobody is stopped without a word to people.
fn hand_over(hook: Hook, stop: Option<String>, hand: impl FnOnce(Hook) -> bool) -> Done {
    if !hand(hook) {
        return Done::Lost;
    }
    stop.map_or(Done::Taken, Done::Stopped)
}

/// What became of a hook.
enum Done {
    /// It can't be read.
    Rejected,
    /// The engine has no room for it.
    Lost,
    /// It will be looked at.
    Taken,
    /// The same, and its sender is to be answered by this.
    Stopped(String),
}

/// What the sender of a request says of itself.
pub(super) fn sender(uri: &Uri, headers: &HeaderMap) -> SenderIdentity {
    let parameters = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri);
    let parameters = parameters.map(|query| query.0).unwrap_or_default();
    let said = parameters.iter().map(|(key, value)| (&**key, &**value));
    SenderIdentity::new(
        said.chain(HEADERS.iter().filter_map(|(header, key)| Some((*key, headers.get(*header)?.to_str().ok()?)))),
    )
}

/// The answer to what was read; what is lost on the way is counted.
fn settle<T>(own: &Own, read: Result<T, Refusal>, take: impl FnOnce(T) -> Done) -> Response {
    let (lost, header) = match read {
        Ok(read) => match take(read) {
            Done::Rejected => (Some(RejectReason::Malformed), None),
            Done::Lost => (Some(RejectReason::Busy), None),
            Done::Taken => (None, None),
            Done::Stopped(answer) => return json_answer(StatusCode::OK, answer),
        },
        Err(Refusal { status: StatusCode::PAYLOAD_TOO_LARGE, header, .. }) => (Some(RejectReason::TooLarge), header),
        Err(Refusal { status: StatusCode::SERVICE_UNAVAILABLE, .. }) => (Some(RejectReason::Busy), None),
        Err(refusal) => return refusal.into_response(),
    };
    if let Some(reason) = lost {
        own.rejected(InputKind::Hooks, reason, 1);
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    if let Some((name, value)) = header {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::hook::SessionEvent;

    /// What is answered, and how often which loss was counted.
    fn check(read: Result<Bytes, Refusal>, done: Done, expected: (u16, Option<&str>)) {
        let own = Own::new();
        let response = settle(&own, read, |body| {
            assert_eq!(body, "{}");
            done
        });
        let page = own.text(crate::metrics::Format::OpenMetrics);
        let lost = ["busy", "too_large", "malformed"].into_iter().find(|reason| {
            let line = format!("lookout_rejected_total{{signal=\"hooks\",reason=\"{reason}\"}} 1");
            page.lines().any(|found| found == line)
        });
        assert_eq!((response.status().as_u16(), lost), expected);
    }

    #[test]
    fn nobody_is_stopped_of_whom_the_engine_does_not_hear() {
        let hook = || Hook {
            project: "shop".into(),
            agent: "a".into(),
            agent_type: "t".into(),
            session: 1,
            subagent: None,
            event: SessionEvent::Alive,
            retry_at: None,
            stop: None,
        };
        let own = Own::new();
        let stop = |is_taken| hand_over(hook(), Some("{}".to_owned()), |_| is_taken);
        let status = |is_taken| settle(&own, Ok(Bytes::new()), |_| stop(is_taken)).status().as_u16();
        assert_eq!([status(true), status(false)], [200, 204]);
    }

    #[test]
    fn whatever_becomes_of_a_hook_its_sender_may_go_on() {
        let body = || Ok(Bytes::from_static(b"{}"));
        let refused = |status| Err(Refusal::new(status, "no"));
        check(body(), Done::Taken, (204, None));
        check(body(), Done::Lost, (204, Some("busy")));
        check(body(), Done::Rejected, (204, Some("malformed")));
        check(refused(StatusCode::SERVICE_UNAVAILABLE), Done::Taken, (204, Some("busy")));
        check(refused(StatusCode::PAYLOAD_TOO_LARGE), Done::Taken, (204, Some("too_large")));
        check(refused(StatusCode::UNSUPPORTED_MEDIA_TYPE), Done::Taken, (415, None));
    }
}
