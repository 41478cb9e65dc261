//! Hooks: taken without a look at them, since the agent waits for the answer.
//!
//! The answer is always empty, and 204 whatever becomes of the hook: it must never tell an agent what to do, nor stop one
//! whose sidecar has too much to do. Only who may not post, or posts no JSON at all, is told so.

use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri};
use hyper::body::Incoming;

use super::Context;
use super::error::Refusal;
use crate::metrics::Own;
use crate::sources::hooks::Target;

/// Where Claude Code's hooks are posted.
pub(super) const CLAUDE_CODE: &str = "/hooks/claude-code";
/// Headers that say what parameters of the address may say as well.
const HEADERS: [(&str, &str); 2] = [("x-lookout-agent", "agent"), ("x-lookout-project", "project")];

/// Answers a hook of Claude Code.
pub(super) async fn answer(context: &Context, request: Request<Incoming>) -> Response {
    let target = target(request.uri(), request.headers());
    let read = context.bodies.read(request).await;
    settle(&context.own, read, |body| context.engine.hook(target, body))
}

/// What the sender of a request says of itself.
pub(super) fn target(uri: &Uri, headers: &HeaderMap) -> Target {
    let parameters = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri);
    let parameters = parameters.map(|query| query.0).unwrap_or_default();
    let said = parameters.iter().map(|(key, value)| (&**key, &**value));
    Target::new(
        said.chain(HEADERS.iter().filter_map(|(header, key)| Some((*key, headers.get(*header)?.to_str().ok()?)))),
    )
}

/// The answer to what was read; what is lost on the way is counted.
fn settle(own: &Own, read: Result<Bytes, Refusal>, take: impl FnOnce(Bytes) -> bool) -> Response {
    let (lost, header) = match read {
        Ok(body) => ((!take(body)).then_some("busy"), None),
        Err(Refusal { status: StatusCode::PAYLOAD_TOO_LARGE, header, .. }) => (Some("too_large"), header),
        Err(Refusal { status: StatusCode::SERVICE_UNAVAILABLE, .. }) => (Some("busy"), None),
        Err(refusal) => return refusal.into_response(),
    };
    if let Some(reason) = lost {
        own.rejected("hooks", reason, 1);
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    if let Some((name, value)) = header {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is answered, and how often which loss was counted.
    fn check(read: Result<Bytes, Refusal>, is_taken: bool, expected: (u16, Option<&str>)) {
        let own = Own::new();
        let response = settle(&own, read, |body| {
            assert_eq!(body, "{}");
            is_taken
        });
        let page = own.text(crate::metrics::Format::OpenMetrics);
        let lost = ["busy", "too_large", "malformed"].into_iter().find(|reason| {
            let line = format!("lookout_rejected_total{{signal=\"hooks\",reason=\"{reason}\"}} 1");
            page.lines().any(|found| found == line)
        });
        assert_eq!((response.status().as_u16(), lost), expected);
    }

    #[test]
    fn whatever_becomes_of_a_hook_its_sender_may_go_on() {
        let body = || Ok(Bytes::from_static(b"{}"));
        let refused = |status| Err(Refusal::new(status, "no"));
        check(body(), true, (204, None));
        check(body(), false, (204, Some("busy")));
        check(refused(StatusCode::SERVICE_UNAVAILABLE), true, (204, Some("busy")));
        check(refused(StatusCode::PAYLOAD_TOO_LARGE), true, (204, Some("too_large")));
        check(refused(StatusCode::UNSUPPORTED_MEDIA_TYPE), true, (415, None));
    }
}
