//! Callbacks: calls that a proxy posts by itself when they have ended. They are taken in like OTLP, by the same owner, and
//! the answer says how many were.

use axum::response::Response;
use http::{Request, StatusCode};
use serde_json::json;

use super::Context;
use super::connections::Arriving;
use super::error::{Refusal, json as json_answer};
use super::hooks;
use crate::metrics::Own;
use crate::model::{InputKind, RejectReason};
use crate::otlp::ExportOutcome;

/// Answers a body of calls that LiteLLM's generic API callback posts.
pub(super) async fn answer(context: &Context, request: Request<Arriving>) -> Result<Response, Refusal> {
    let sender = hooks::sender(request.uri(), request.headers());
    let taking = async {
        let body = context.bodies.read(request).await?;
        Ok(context.otlp.litellm(sender, body).await?)
    };
    let result = taking.await;
    count(&context.own, &result);
    let taken = result?;
    let answer = match taken.partial_success() {
        Some((rejected, error)) => json!({"accepted": taken.accepted, "rejected": rejected, "error": error}),
        None => json!({"accepted": taken.accepted}),
    };
    Ok(json_answer(StatusCode::OK, answer.to_string()))
}

fn count(own: &Own, result: &Result<ExportOutcome, Refusal>) {
    match result {
        Ok(taken) => {
            own.ingested(InputKind::Callback, taken.accepted);
            taken.rejected().for_each(|(reason, count)| own.rejected(InputKind::Callback, reason, count));
        }
        Err(refusal) => {
            let is_unreadable = refusal.status == StatusCode::BAD_REQUEST;
            let reason = if is_unreadable { Some(RejectReason::Malformed) } else { refusal.loss() };
            reason.into_iter().for_each(|reason| own.rejected(InputKind::Callback, reason, 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What of it is counted.
    fn check(result: Result<ExportOutcome, Refusal>, expected: &[&str]) {
        let own = Own::new();
        count(&own, &result);
        let page = own.text(crate::metrics::Format::OpenMetrics);
        let counted: Vec<&str> = page
            .lines()
            .filter_map(|line| line.split_once("signal=\"callback\"").map(|(_, rest)| rest))
            .filter(|rest| !rest.ends_with(" 0"))
            .collect();
        assert_eq!(counted, expected);
    }

    #[test]
    fn what_is_lost_is_counted() {
        check(Ok(ExportOutcome::all_accepted(3)), &["} 3"]);
        for (status, reason) in [(400, "malformed"), (413, "too_large"), (503, "busy")] {
            let refusal = Refusal::new(StatusCode::from_u16(status).expect("a status"), "no");
            check(Err(refusal), &[&*format!(",reason=\"{reason}\"}} 1")]);
        }
        check(Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "no")), &[]);
    }
}
