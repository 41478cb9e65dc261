//! Error responses: a status and `{"error": "…"}`.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::engine::{IngestError, Stopped};
use crate::model::RejectReason;

/// An error response.
#[derive(Debug)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) message: String,
    pub(super) header: Option<(header::HeaderName, &'static str)>,
    /// Whether the caller is known and its role does not suffice: then the message is the reason for `Unauthorized`.
    pub(super) lacks_role: bool,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), header: None, lacks_role: false }
    }

    /// The reason under which the rejected body is counted, if it is.
    pub(super) const fn reject_reason(&self) -> Option<RejectReason> {
        match self.status {
            StatusCode::PAYLOAD_TOO_LARGE => Some(RejectReason::TooLarge),
            StatusCode::SERVICE_UNAVAILABLE => Some(RejectReason::Busy),
            _ => None,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = match self.lacks_role {
            true => serde_json::json!({"error": "Unauthorized", "reason": self.message}),
            false => serde_json::json!({"error": self.message}),
        };
        let mut response = json(self.status, body.to_string());
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// A JSON response.
pub(super) fn json(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

impl From<Stopped> for ApiError {
    fn from(error: Stopped) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl From<IngestError> for ApiError {
    fn from(error: IngestError) -> Self {
        let (status, header) = match &error {
            IngestError::Full(_) => (StatusCode::TOO_MANY_REQUESTS, Some((header::RETRY_AFTER, "60"))),
            IngestError::Busy => (StatusCode::SERVICE_UNAVAILABLE, Some((header::RETRY_AFTER, "1"))),
            IngestError::Stopped => (StatusCode::SERVICE_UNAVAILABLE, None),
        };
        Self { header, ..Self::new(status, error.to_string()) }
    }
}
