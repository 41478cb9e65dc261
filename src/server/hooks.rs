//! Hooks of agents, answered immediately since the agent waits for the response.
//!
//! The response is an empty 204, even if the hook is rejected: it must not influence the agent, nor block it when lookout is
//! busy. Only a missing permission or a wrong content type is an error. An agent that exceeded a budget with `action: stop`
//! gets a stop order, unless the engine's queue is full.

use std::sync::Arc;

use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri};

use super::ServerContext;
use super::connections::RequestBody;
use super::error::{ApiError, json as json_answer};
use crate::ingest::hooks::{HookError, HookEvent, HookTool};
use crate::metrics::SidecarMetrics;
use crate::model::{Hook, InputKind, RejectReason};
use crate::profiles::identity::SenderIdentity;

/// Headers that can be used instead of query parameters.
const HEADERS: [(&str, &str); 2] = [("x-lookout-agent", "agent"), ("x-lookout-project", "project")];

/// Handles a hook of `tool`.
pub(super) async fn answer(
    context: &ServerContext,
    tool: &'static HookTool,
    request: Request<RequestBody>,
) -> Response {
    let sender = sender(request.uri(), request.headers());
    respond(&context.own, read(context, tool, request).await, |event| {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                tracing::debug!(error = %error, "rejected malformed hook");
                return HookDelivery::Rejected;
            }
        };
        let agent = sender.identify_hook_agent(&context.agent_rules.borrow(), tool.name, event.cwd.as_deref());
        let orders = Arc::clone(&context.stop_orders.borrow());
        let order = event.moment.and_then(|moment| Some((moment, orders.order((&agent.0, &agent.1), moment)?)));
        let answer = order.map(|(moment, stop)| (tool.stop)(moment, &format!("{} {}", agent.1, stop.why)));
        let stop = order.map(|(_, stop)| stop.clone());
        enqueue(event.into_hook(tool, agent, stop), answer, |hook| context.engine.hook(hook))
    })
}

async fn read(
    context: &ServerContext,
    tool: &'static HookTool,
    request: Request<RequestBody>,
) -> Result<Result<HookEvent, HookError>, ApiError> {
    let body = context.bodies.read(request).await?;
    let now = context.clock.wall();
    let (event, _turn) = context.bodies.decode(body, move |body| tool.decode(&body, now)).await?;
    Ok(event)
}

/// Queues a hook. The stop order is sent only if that succeeded, since otherwise no one would be notified of the stop.
fn enqueue(hook: Hook, stop: Option<String>, send: impl FnOnce(Hook) -> bool) -> HookDelivery {
    if !send(hook) {
        return HookDelivery::Dropped;
    }
    stop.map_or(HookDelivery::Queued, HookDelivery::Stopped)
}

/// The outcome of a hook.
enum HookDelivery {
    /// It is malformed.
    Rejected,
    /// The engine's queue is full.
    Dropped,
    /// It was queued.
    Queued,
    /// It was queued, and this stop order is the response.
    Stopped(String),
}

/// The identity that a request gives in parameters or headers.
pub(super) fn sender(uri: &Uri, headers: &HeaderMap) -> SenderIdentity {
    let parameters = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri);
    let parameters = parameters.map(|query| query.0).unwrap_or_default();
    let parameters = parameters.iter().map(|(key, value)| (&**key, &**value));
    SenderIdentity::new(
        parameters.chain(HEADERS.iter().filter_map(|(header, key)| Some((*key, headers.get(*header)?.to_str().ok()?)))),
    )
}

/// The response to a hook. Rejected hooks are counted.
fn respond<T>(own: &SidecarMetrics, read: Result<T, ApiError>, take: impl FnOnce(T) -> HookDelivery) -> Response {
    let (reject_reason, header) = match read {
        Ok(read) => match take(read) {
            HookDelivery::Rejected => (Some(RejectReason::Malformed), None),
            HookDelivery::Dropped => (Some(RejectReason::Busy), None),
            HookDelivery::Queued => (None, None),
            HookDelivery::Stopped(answer) => return json_answer(StatusCode::OK, answer),
        },
        Err(ApiError { status: StatusCode::PAYLOAD_TOO_LARGE, header, .. }) => (Some(RejectReason::TooLarge), header),
        Err(ApiError { status: StatusCode::SERVICE_UNAVAILABLE, .. }) => (Some(RejectReason::Busy), None),
        Err(error) => return error.into_response(),
    };
    if let Some(reason) = reject_reason {
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

    /// Checks the status of the response and the counted reason.
    fn check(read: Result<Bytes, ApiError>, done: HookDelivery, expected: (u16, Option<&str>)) {
        let own = SidecarMetrics::new();
        let response = respond(&own, read, |body| {
            assert_eq!(body, "{}");
            done
        });
        let page = own.text(crate::metrics::ExpositionFormat::OpenMetrics);
        let reason = ["busy", "too_large", "malformed"].into_iter().find(|reason| {
            let line = format!("lookout_rejected_total{{signal=\"hooks\",reason=\"{reason}\"}} 1");
            page.lines().any(|found| found == line)
        });
        assert_eq!((response.status().as_u16(), reason), expected);
    }

    #[test]
    fn no_stop_order_is_sent_when_the_hook_is_dropped() {
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
        let own = SidecarMetrics::new();
        let stop = |is_queued| enqueue(hook(), Some("{}".to_owned()), |_| is_queued);
        let status = |is_queued| respond(&own, Ok(Bytes::new()), |_| stop(is_queued)).status().as_u16();
        assert_eq!([status(true), status(false)], [200, 204]);
    }

    #[test]
    fn a_rejected_hook_never_blocks_the_agent() {
        let body = || Ok(Bytes::from_static(b"{}"));
        let rejected = |status| Err(ApiError::new(status, "no"));
        check(body(), HookDelivery::Queued, (204, None));
        check(body(), HookDelivery::Dropped, (204, Some("busy")));
        check(body(), HookDelivery::Rejected, (204, Some("malformed")));
        check(rejected(StatusCode::SERVICE_UNAVAILABLE), HookDelivery::Queued, (204, Some("busy")));
        check(rejected(StatusCode::PAYLOAD_TOO_LARGE), HookDelivery::Queued, (204, Some("too_large")));
        check(rejected(StatusCode::UNSUPPORTED_MEDIA_TYPE), HookDelivery::Queued, (415, None));
    }
}
