//! The page for browsers: HTML from the templates in `web/`, rendered from the same views as the API. It works without
//! JavaScript, as a page that reloads; with it, changes arrive by the stream.

mod agent;
mod alerts;
mod assets;
mod board;
mod compare;
mod filter;
mod fleet;
mod live;
mod login;
mod rows;
mod runs;
mod setup;
mod share;
mod shown;
mod summary;
mod svg;
mod words;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use axum::extract::{FromRequestParts, Query};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context};
use serde::Serialize;

use super::HandlerState;
use super::access::Caller;
use super::connections::Connection;
use super::error::ApiError;
use crate::model::{AlertState, Level, Time};

pub(super) use agent::show as agent;
pub(super) use alerts::{list as alerts, show as alert};
pub(super) use assets::{asset, icon};
pub use board::StatusReader;
pub(super) use board::{FleetBoard, OpenAlerts};
pub(super) use compare::show as compare;
pub(super) use fleet::show as fleet;
pub(super) use live::{FleetTracker, PageChange};
pub(super) use login::{redirect, refused, sign_in, signed_in, signed_out};
pub(super) use runs::{list as runs, show as run};
pub(super) use setup::show as setup;
pub(super) use share::{SharedLink, show as shared};

/// How hard a page is compressed that is sent once, and a large one.
const GZIP_LEVEL: u32 = 4;
const GZIP_LEVEL_OF_LARGE: u32 = 1;
const LARGE: usize = 256 << 10;
/// Seconds after which a page without JavaScript loads again.
const REFRESH: u32 = 15;

/// Everything comes from here: no scripts or styles within the page, and nothing from elsewhere.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

static TEMPLATES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut templates = Environment::new();
    templates.set_auto_escape_callback(|_| AutoEscape::Html);
    templates.set_undefined_behavior(UndefinedBehavior::Lenient);
    // Tags on lines of their own leave no lines behind. It builds: the delimiters are the default ones.
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        templates.set_syntax(syntax);
    }
    for (name, source) in [
        ("base.html", include_str!("../../web/base.html")),
        ("glyphs.svg", include_str!("../../web/glyphs.svg")),
        ("fleet.html", include_str!("../../web/fleet.html")),
        ("summary.html", include_str!("../../web/summary.html")),
        ("queue.html", include_str!("../../web/queue.html")),
        ("group.html", include_str!("../../web/group.html")),
        ("loose.html", include_str!("../../web/loose.html")),
        ("sources.html", include_str!("../../web/sources.html")),
        ("empty.html", include_str!("../../web/empty.html")),
        ("silence.html", include_str!("../../web/silence.html")),
        ("alerts.html", include_str!("../../web/alerts.html")),
        ("alert-row.html", include_str!("../../web/alert-row.html")),
        ("alert.html", include_str!("../../web/alert.html")),
        ("agent.html", include_str!("../../web/agent.html")),
        ("runs.html", include_str!("../../web/runs.html")),
        ("run.html", include_str!("../../web/run.html")),
        ("compare.html", include_str!("../../web/compare.html")),
        ("setup.html", include_str!("../../web/setup.html")),
        ("error.html", include_str!("../../web/error.html")),
        ("login.html", include_str!("../../web/login.html")),
        ("share.html", include_str!("../../web/share.html")),
    ] {
        // A test renders each of them.
        templates.add_template(name, source).ok();
    }
    templates
});

/// What of a request matters to every page.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    /// Whether the visitor may acknowledge, silence and test.
    is_admin: bool,
    /// The visitor's name, if it is known, and whether it signed in here.
    user: Option<String>,
    has_session: bool,
    accepts_gzip: bool,
    /// The theme that the visitor chose, if any.
    theme: Option<&'static str>,
    query: BTreeMap<String, String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Visit {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = Query::<BTreeMap<String, String>>::from_request_parts(parts, state).await;
        let Query(query) = query.map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, error.body_text()))?;
        let caller = parts.extensions.get::<Caller>().cloned().unwrap_or_default();
        Ok(Self {
            is_admin: caller.is_admin(),
            user: caller.shown_name().map(ToOwned::to_owned),
            has_session: caller.has_session(),
            accepts_gzip: accepts_gzip(&parts.headers),
            theme: theme(&parts.headers),
            query,
        })
    }
}

/// The theme that the visitor chose, if any.
fn theme(headers: &HeaderMap) -> Option<&'static str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies.flat_map(|cookies| cookies.split(';')).find_map(|cookie| match cookie.trim() {
        "theme=dark" => Some("dark"),
        "theme=light" => Some("light"),
        _ => None,
    })
}

impl Visit {
    /// What a rendered page of `view` depends on: who visits it, and from where on it follows changes.
    fn key(&self, view: &str, since: Option<&str>) -> String {
        let visitor = (self.is_admin, &self.user, self.has_session);
        format!("{view} {since:?} {visitor:?} {} {:?} {:?}", self.accepts_gzip, self.theme, self.query)
    }

    /// A parameter of the query, unless it is empty.
    fn parameter(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }
}

/// Whether a response may be compressed by gzip.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        name.trim().eq_ignore_ascii_case("gzip") && !matches!(weight.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000")
    })
}

/// Whether a browser asks, rather than a program.
pub(super) fn wants_html(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| kind.trim().starts_with("text/html"))
}

/// What surrounds every view.
#[derive(Debug, Serialize)]
struct Frame {
    title: String,
    view: &'static str,
    icon: String,
    style: String,
    script: String,
    refresh: u32,
    admin: bool,
    theme: Option<&'static str>,
    wall: bool,
    nav: Vec<NavLink>,
    taken: String,
    /// The way to the base of the page.
    root: String,
    user: Option<String>,
    session: bool,
}

impl Frame {
    /// What surrounds a view that shows nothing of the fleet, at an address from which `root` leads to the base of the page.
    fn bare(title: String, view: &'static str, root: &str, theme: Option<&'static str>) -> Self {
        let from_root = |href: String| format!("{}{href}", root.trim_start_matches("./"));
        Self {
            title,
            view,
            icon: from_root(assets::icon_href(0, false)),
            style: from_root(assets::STYLE.href()),
            script: from_root(assets::SCRIPT.href()),
            refresh: 0,
            admin: false,
            theme,
            wall: false,
            nav: Vec::new(),
            taken: String::new(),
            root: root.to_owned(),
            user: None,
            session: false,
        }
    }
}

#[derive(Debug, Serialize)]
struct NavLink {
    name: &'static str,
    href: &'static str,
    current: bool,
    count: usize,
    class: String,
}

/// The state of alerts as the frame shows it.
#[derive(Clone, Copy, Debug, Default)]
struct AlertSummary {
    firing: usize,
    worst: Option<Level>,
    needs: usize,
}

impl AlertSummary {
    fn of(alerts: &OpenAlerts) -> Self {
        let firing = || alerts.iter().filter(|alert| alert.state == AlertState::Firing);
        let needs = alerts.iter().filter(|alert| shown::is_loud(alert)).count();
        Self { firing: firing().count(), worst: firing().map(|alert| alert.level).max(), needs }
    }

    fn is_critical(&self) -> bool {
        self.worst == Some(Level::Critical)
    }

    /// What the icon counts.
    fn urgent(&self) -> usize {
        self.needs.max(usize::from(self.is_critical()))
    }
}

/// The links to the views.
fn nav(view: &str, alerts: AlertSummary) -> Vec<NavLink> {
    let links = [
        ("Fleet", "./", "fleet"),
        ("Alerts", "alerts", "alerts"),
        ("Runs", "runs", "runs"),
        ("Set up", "setup", "setup"),
    ];
    let links = links.map(|(name, href, it)| {
        let (count, class) = match (it, alerts.worst) {
            ("alerts", Some(worst)) => (alerts.firing, format!("l-{}", worst.as_str())),
            _ => (0, String::new()),
        };
        NavLink { name, href, current: it == view, count, class }
    });
    links.into()
}

/// What surrounds the view `view`.
fn frame(visit: &Visit, view: &'static str, title: String, alerts: AlertSummary, now: Time) -> Value {
    Value::from(Serde(Frame {
        title,
        view,
        icon: assets::icon_href(alerts.urgent(), alerts.is_critical()),
        style: assets::STYLE.href(),
        script: assets::SCRIPT.href(),
        refresh: REFRESH,
        admin: visit.is_admin,
        theme: visit.theme,
        wall: visit.query.contains_key("wall"),
        nav: nav(view, alerts),
        taken: now.to_jiff().strftime("as of %H:%M:%S UTC").to_string(),
        root: "./".to_owned(),
        user: visit.user.clone(),
        session: visit.has_session,
    }))
}

/// All active alerts.
async fn active_alerts(shared: &HandlerState) -> Result<Arc<OpenAlerts>, ApiError> {
    Ok(shared.context.streams.board().alerts(&shared.context.engine).await?)
}

/// An error as a page.
#[derive(Debug)]
pub(super) struct PageError(ApiError);

impl<E: Into<ApiError>> From<E> for PageError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl PageError {
    /// The page, at an address from which `root` leads to the base. It is tried again after `retry` seconds, unless that is 0.
    fn response(self, root: &str, retry: u32) -> Response {
        let ApiError { status, message, header, .. } = self.0;
        let mut frame = Frame::bare(format!("{} · lookout", status.as_u16()), "error", root, None);
        frame.script = String::new();
        if root == "./" {
            frame.nav = nav("", AlertSummary::default());
        }
        let context = context! {
            page => Value::from(Serde(frame)), status => status.as_u16(), message => message, retry => retry,
        };
        let mut response = small_page("error.html", context, status);
        if let Some((name, value)) = header {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// `template` with `context`, compressed if asked for.
fn render(template: &'static str, context: Value, is_compressed: bool) -> Result<Bytes, ApiError> {
    let html = TEMPLATES.get_template(template).and_then(|template| template.render(context)).map_err(|error| {
        tracing::error!(template, error = %error, "page could not be rendered");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the page could not be rendered: {error}"))
    })?;
    let level = if html.len() > LARGE { GZIP_LEVEL_OF_LARGE } else { GZIP_LEVEL };
    Ok(if is_compressed { assets::compress(html.as_bytes(), level) } else { Bytes::from(html) })
}

/// Sends a rendered page.
async fn respond(
    shared: &HandlerState,
    reader: &Connection,
    visit: &Visit,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let mut response = shared.sending.body(bytes, reader).await?.into_response();
    decorate(response.headers_mut(), visit.accepts_gzip);
    Ok(response)
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        self.response("./", 0)
    }
}

/// A small page.
fn small_page(template: &str, context: Value, status: StatusCode) -> Response {
    let html = TEMPLATES.get_template(template).and_then(|template| template.render(context));
    let mut response = html.unwrap_or_else(|error| format!("the page could not be rendered: {error}")).into_response();
    *response.status_mut() = status;
    decorate(response.headers_mut(), false);
    response
}

/// Renders `template` with what `context` builds on a blocking thread, and sends it.
async fn send(
    shared: &HandlerState,
    reader: &Connection,
    visit: &Visit,
    template: &'static str,
    context: impl FnOnce() -> Value + Send + 'static,
) -> Result<Response, ApiError> {
    let is_compressed = visit.accepts_gzip;
    let built = shared.sending.build(move || render(template, context(), is_compressed)).await?;
    respond(shared, reader, visit, built?).await
}

fn decorate(headers: &mut HeaderMap, is_compressed: bool) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::VARY, HeaderValue::from_static("accept, accept-encoding, cookie"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    if is_compressed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
}
