//! Callbacks: completed calls that a proxy posts. They are ingested like OTLP, by the same task, and the response has the
//! number of accepted ones.

use axum::response::Response;
use http::{Request, StatusCode};
use serde_json::json;

use super::ServerContext;
use super::connections::RequestBody;
use super::error::{ApiError, json as json_answer};
use super::hooks;
use crate::metrics::SidecarMetrics;
use crate::model::{InputKind, RejectReason};
use crate::otlp::ExportOutcome;

/// `POST /hooks/litellm`: calls posted by LiteLLM's generic API callback.
pub(super) async fn answer(context: &ServerContext, request: Request<RequestBody>) -> Result<Response, ApiError> {
    let sender = hooks::sender(request.uri(), request.headers());
    let ingesting = async {
        let body = context.bodies.read(request).await?;
        Ok(context.otlp.litellm(sender, body).await?)
    };
    let result = ingesting.await;
    count(&context.own, &result);
    let outcome = result?;
    let answer = match outcome.partial_success() {
        Some((rejected, error)) => json!({"accepted": outcome.accepted, "rejected": rejected, "error": error}),
        None => json!({"accepted": outcome.accepted}),
    };
    Ok(json_answer(StatusCode::OK, answer.to_string()))
}

fn count(own: &SidecarMetrics, result: &Result<ExportOutcome, ApiError>) {
    match result {
        Ok(outcome) => {
            own.ingested(InputKind::Callback, outcome.accepted);
            outcome.rejected().for_each(|(reason, count)| own.rejected(InputKind::Callback, reason, count));
        }
        Err(error) => {
            let is_unreadable = error.status == StatusCode::BAD_REQUEST;
            let reason = if is_unreadable { Some(RejectReason::Malformed) } else { error.reject_reason() };
            reason.into_iter().for_each(|reason| own.rejected(InputKind::Callback, reason, 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the counted series.
    fn check(result: Result<ExportOutcome, ApiError>, expected: &[&str]) {
        let own = SidecarMetrics::new();
        count(&own, &result);
        let page = own.text(crate::metrics::ExpositionFormat::OpenMetrics);
        let counted: Vec<&str> = page
            .lines()
            .filter_map(|line| line.split_once("signal=\"callback\"").map(|(_, rest)| rest))
            .filter(|rest| !rest.ends_with(" 0"))
            .collect();
        assert_eq!(counted, expected);
    }

    #[test]
    fn rejected_callbacks_are_counted() {
        check(Ok(ExportOutcome::all_accepted(3)), &["} 3"]);
        for (status, reason) in [(400, "malformed"), (413, "too_large"), (503, "busy")] {
            let error = ApiError::new(StatusCode::from_u16(status).expect("a status"), "no");
            check(Err(error), &[&*format!(",reason=\"{reason}\"}} 1")]);
        }
        check(Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "no")), &[]);
    }
}
