//! Signing in with a token and out again, and how a browser is refused.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Limited;
use minijinja::value::Serde;
use minijinja::{Value, context};
use tokio_util::sync::CancellationToken;

use super::words::query;
use super::{Frame, PageError, Visit, small_page, theme, wants_html};
use crate::server::HandlerState;
use crate::server::access::{AccessRules, Caller, SignInError};
use crate::server::connections::Connection;
use crate::server::error::ApiError;

/// Largest body of a form in bytes.
const MAX_FORM: usize = 16 * 1024;
/// Longest address that one returns to, in bytes.
const MAX_NEXT: usize = 2_000;

/// What the page that signs in shows.
#[derive(Debug, Default)]
struct SignInPage {
    status: StatusCode,
    /// The way to the base of the page: `./`, `../`.
    root: String,
    error: Option<String>,
    next: String,
    /// Whether a session may exist whose cookie the browser did not send, since another site linked here.
    is_linked: bool,
    retry_after: Option<u64>,
}

impl SignInPage {
    fn response(self, access: &AccessRules, headers: &HeaderMap) -> Response {
        let frame = Frame::bare("Sign in · lookout".to_owned(), "login", &self.root, theme(headers));
        let context = context! {
            page => Value::from(Serde(frame)),
            error => self.error,
            has_own_token => access.has_own_token(),
            has_tokens => access.has_tokens(),
            // The browser sends the cookie when our own page leads there.
            again => self.is_linked.then(|| format!("{}login?next={}", self.root, query(&self.next))),
            next => self.next,
        };
        let mut response = small_page("login.html", context, self.status);
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            // Not `Basic`, for which a browser asks by itself.
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"lookout\""));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Seconds after which a screen with a shared link tries again.
const SCREEN_RETRY: u32 = 60;

/// The answer to a request that was refused: to a browser a page, on which one can sign in if that helps.
pub(in crate::server) fn refused<B>(request: &Request<B>, access: &AccessRules, error: ApiError) -> Response {
    let headers = request.headers();
    if !wants_html(headers) {
        return error.into_response();
    }
    let path = request.uri().path();
    let root = match path.matches('/').count().saturating_sub(1) {
        0 => "./".to_owned(),
        depth => "../".repeat(depth),
    };
    if error.status != StatusCode::UNAUTHORIZED {
        let is_screen = request.uri().query().is_some_and(|query| query.contains("share="));
        return PageError(error).response(&root, if is_screen { SCREEN_RETRY } else { 0 });
    }
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let target = request.uri().path_and_query().map_or("", |target| target.as_str());
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    let page = SignInPage {
        status: StatusCode::UNAUTHORIZED,
        root,
        next: if is_read { own_address(target.trim_start_matches('/')) } else { String::new() },
        is_linked: is_read && !matches!(site, Some(b"none" | b"same-origin")),
        ..SignInPage::default()
    };
    page.response(access, headers)
}

/// `GET /login`.
pub(crate) async fn sign_in(
    State(shared): State<HandlerState>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    visit: Visit,
) -> Response {
    let next = own_address(visit.parameter("next").unwrap_or_default());
    if caller.may_read() {
        return redirect(StatusCode::SEE_OTHER, &format!("./{next}"));
    }
    let access = Arc::clone(&shared.context.access.borrow());
    SignInPage { root: "./".to_owned(), next, ..SignInPage::default() }.response(&access, &headers)
}

/// `POST /login`, a form with `token` and `next`.
pub(crate) async fn signed_in(
    State(shared): State<HandlerState>,
    Extension(connection): Extension<Connection>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded") {
        let message = "send a form with `content-type: application/x-www-form-urlencoded`";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let body = Limited::new(body, MAX_FORM);
    let body = shared.context.bodies.read_raw(body, &CancellationToken::new()).await?;
    let field = |wanted: &str| {
        let mut fields = form_urlencoded::parse(&body);
        fields.find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned()).unwrap_or_default()
    };
    let next = own_address(&field("next"));
    let access = Arc::clone(&shared.context.access.borrow());
    let error = match access.sign_in(&field("token"), connection.ends().peer).await {
        Ok(cookie) => {
            let mut response = redirect(StatusCode::SEE_OTHER, &format!("./{next}"));
            set_cookie(&mut response, &cookie);
            return Ok(response);
        }
        Err(error) => error,
    };
    let (status, message, retry_after) = match error {
        SignInError::Unknown => (StatusCode::UNAUTHORIZED, "Unknown token.".to_owned(), None),
        SignInError::TooMany(wait) => {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            let message = format!("Too many failed sign-ins from this address. Try again in {seconds} s.");
            (StatusCode::TOO_MANY_REQUESTS, message, Some(seconds))
        }
        SignInError::Unavailable => {
            (StatusCode::SERVICE_UNAVAILABLE, "The system has no random numbers.".to_owned(), Some(5))
        }
    };
    if wants_html(&parts.headers) {
        let page =
            SignInPage { status, root: "./".to_owned(), error: Some(message), next, retry_after, is_linked: false };
        return Ok(page.response(&access, &parts.headers));
    }
    let mut response = ApiError::new(status, message).into_response();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    Ok(response)
}

/// `POST /logout`.
pub(crate) async fn signed_out(State(shared): State<HandlerState>, headers: HeaderMap) -> Response {
    let access = Arc::clone(&shared.context.access.borrow());
    let mut response = redirect(StatusCode::SEE_OTHER, "./login");
    set_cookie(&mut response, &access.sign_out(&headers));
    response
}

fn set_cookie(response: &mut Response, cookie: &str) {
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
}

/// Sends a client to a relative address.
pub(in crate::server) fn redirect(status: StatusCode, location: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// `next`, if it is an address of ours relative to the base, and not of another site; otherwise nothing, which is the base.
fn own_address(next: &str) -> String {
    let (path, query) = next.split_once('?').unwrap_or((next, ""));
    let is_segment = |segment: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'%');
        // Browsers read `%2e` as a dot.
        let decoded: Vec<u8> = percent_encoding::percent_decode_str(segment).collect();
        let leads_up =
            matches!(&*decoded, b"" | b"." | b"..") || decoded.iter().any(|byte| matches!(byte, b'/' | b'\\'));
        !leads_up && segment.bytes().all(is_plain)
    };
    let is_path = path.is_empty() || path.split('/').all(is_segment);
    let is_query =
        query.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'<' | b'>' | b'"' | b'#'));
    let is_sign_in = ["login", "logout"].contains(&path);
    if is_path && is_query && !is_sign_in && next.len() <= MAX_NEXT { next.to_owned() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_returns_to_own_addresses_only() {
        for own in
            ["", "alerts", "alert?id=0123", "agent?project=a%26b&agent=%3Cx%3E", "?q=bash&state=failed", "api/status"]
        {
            assert_eq!(own_address(own), own);
        }
        for other in [
            "https://evil.example/",
            "//evil.example",
            "/alerts",
            "/\\evil.example",
            "\\\\evil.example",
            "javascript:alert(1)",
            "alerts/../../evil",
            "%2e%2e/evil",
            "%2E./evil",
            "alerts/.%2e/evil",
            "alerts%2f..%2fevil",
            "../evil",
            "alerts//evil",
            "./alerts",
            "alerts\r\nset-cookie: a=b",
            "alerts?a=\r\nb",
            "alerts?x=\"><script>",
            "alerts#x",
            "alerts?x#y",
            "älerts",
            " alerts",
            "login",
            "logout?x",
        ] {
            assert_eq!(own_address(other), "", "{other}");
        }
        assert_eq!(own_address(&format!("alerts?q={}", "a".repeat(MAX_NEXT))), "");
    }
}
