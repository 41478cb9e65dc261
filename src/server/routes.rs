//! The table of routes: path, required role, handler and summary. The router, access checks, the list at `GET /` and
//! `GET /api/openapi.json` are derived from it.

use std::sync::{Arc, LazyLock};

use axum::body::Body;
use axum::extract::State;
use axum::handler::Handler;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, delete, get, patch, post};
use axum::{Extension, Router};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use serde_json::{Map, Value, json};
use tower::ServiceExt as _;

use super::access::Requirement;
use super::connections::{Connection, RequestBody};
use super::error::{ApiError, json as json_answer};
use super::responses::ResponseSender;
use super::scrape::Scraper;
use super::{
    HandlerState, ServerContext, Surface, api, callbacks, hooks, invoke, otlp, page, pushes, registry, reports, runs,
    silences, stream, tasks,
};
use crate::config::server::Role::{self, Admin, Ingest, Read};
use crate::ingest::hooks::{HookTool, TOOLS};
use crate::otlp::Signal;

const OTLP_ONLY: &str = "this listener serves OTLP only: POST /v1/metrics, /v1/traces, /v1/logs";
/// Reads of runs at once.
const READERS: usize = 4;

/// Every route.
static ROUTES: LazyLock<Vec<Route>> = LazyLock::new(|| {
    let first = [
        Route::get(
            "/metrics",
            Requirement::Scrape(Read),
            api::metrics,
            "metrics in the Prometheus text format or OpenMetrics",
        ),
        Route::get(
            "/api/status",
            Read,
            api::status,
            "state of projects, agents, components, sources, receivers and exports",
        ),
        Route::get("/api/metrics", Read, api::totals, "totals and averages of the fleet and of each project"),
        Route::get("/api/alerts", Read, api::alerts, "active alerts, then resolved ones"),
        Route::get(
            "/api/alerts/{fingerprint}/why",
            Read,
            silences::why,
            "timeline of an alert: every decision with its reason",
        ),
        Route::post("/api/alerts/{fingerprint}/ack", Admin, silences::acknowledge, "acknowledge an alert"),
        Route::get("/api/silences", Read, silences::list, "list silences"),
        Route::post("/api/silences", Admin, silences::create, "create or change a silence"),
        Route::post("/api/silences/preview", Admin, silences::preview, "what a silence would cover now"),
        Route::delete("/api/silences/{id}", Admin, silences::expire, "expire a silence"),
        Route::post("/api/receivers/{name}/test", Admin, api::test_receiver, "send a test message to a receiver"),
        Route::get("/api/telemetry", Read, api::telemetry, "signals and hooks received from each agent"),
        Route::get("/api/traces", Read, runs::list, "list runs of agents, newest first"),
        Route::post("/api/traces", Ingest, reports::report, "report a run with its spans, as `lookout pipe` does"),
        Route::delete("/api/traces", Admin, runs::delete_old, "delete runs that began before a time"),
        Route::get("/api/traces/{id}", Read, runs::show, "a run with its spans as a tree, by run or trace id"),
        Route::get("/api/tasks/{id}", Read, tasks::show, "a task: its runs, tokens, cost, progress, agents and alerts"),
        Route::get(
            "/api/agents/stats",
            Read,
            runs::stats,
            "statistics of agents by hour, model, provider, platform or tool",
        ),
        Route::post("/agents/register", Ingest, registry::register, "register an agent, or update it"),
        Route::get("/agents", Read, registry::list, "list registered agents"),
        Route::get("/agents/{id}", Read, registry::show, "a registered agent, its statistics of 24 h and its alerts"),
        Route::get("/agents/{id}/{name}", Read, registry::show_named, "the same, by project and name"),
        Route::patch("/agents/{id}", Admin, registry::patch, "change a registered agent"),
        Route::patch("/agents/{id}/{name}", Admin, registry::patch_named, "the same, by project and name"),
        Route::delete("/agents/{id}", Admin, registry::remove, "make a registered agent inactive"),
        Route::delete("/agents/{id}/{name}", Admin, registry::remove_named, "the same, by project and name"),
        Route::post("/agents/{id}/trace/start", Ingest, runs::start, "begin a run of a registered agent"),
        Route::post("/agents/{id}/{name}/trace/start", Ingest, runs::start_named, "the same, by project and name"),
        Route::post("/agents/{id}/trace/end", Ingest, runs::end, "end a run"),
        Route::post("/agents/{id}/{name}/trace/end", Ingest, runs::end, "the same, by project and name"),
        Route::post("/agents/{id}/invoke", Ingest, invoke::invoke, "run the flow of a registered agent"),
        Route::post("/agents/{id}/{name}/invoke", Ingest, invoke::invoke_named, "the same, by project and name"),
        Route::direct("/api/state", Dispatch::State, "push the state of agents and components"),
        Route::direct("/api/usage", Dispatch::Usage, "push usage increments"),
        Route::direct("/api/metrics", Dispatch::Metrics, "push custom metrics"),
    ];
    let hook =
        |tool: &&'static HookTool| Route::direct(tool.path, Dispatch::Hook(tool), "receive a hook event of the tool");
    let hooks = TOOLS.iter().map(hook);
    let last = [
        Route::direct("/hooks/litellm", Dispatch::Callback, "receive calls from LiteLLM's generic API callback"),
        Route::direct("/v1/metrics", Dispatch::Export(Signal::Metrics), "receive OTLP metrics"),
        Route::direct("/v1/traces", Dispatch::Export(Signal::Traces), "receive OTLP traces"),
        Route::direct("/v1/logs", Dispatch::Export(Signal::Logs), "receive OTLP logs"),
        Route::grpc("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", Signal::Metrics),
        Route::grpc("/opentelemetry.proto.collector.trace.v1.TraceService/Export", Signal::Traces),
        Route::grpc("/opentelemetry.proto.collector.logs.v1.LogsService/Export", Signal::Logs),
        Route::post("/api/monitoring/start", Admin, api::start, "resume polling and rule evaluation"),
        Route::post("/api/monitoring/stop", Admin, api::stop, "pause polling and rule evaluation"),
        Route::get(
            "/api/monitoring/stream",
            Read,
            stream::stream,
            "changes of agents, totals, alerts and runs as server-sent events",
        ),
        Route::get("/-/healthy", Requirement::Nothing, api::healthy, "liveness: whether all tasks run"),
        Route::get("/-/ready", Requirement::Nothing, api::ready, "readiness: whether the store is writable"),
        Route::post("/-/reload", Admin, api::reload, "reload the configuration"),
        Route::get("/api/openapi.json", Read, async || openapi(), "these routes as OpenAPI 3.1"),
        Route::unlisted("/", Read, get(root)),
        Route::unlisted("/alerts", Read, get(page::alerts)),
        Route::unlisted("/alert", Read, get(page::alert)),
        Route::unlisted("/agent", Read, get(page::agent)),
        Route::unlisted("/runs", Read, get(page::runs)),
        Route::unlisted("/run", Read, get(page::run)),
        Route::unlisted("/compare", Read, get(page::compare)),
        Route::unlisted("/setup", Read, get(page::setup)),
        Route::unlisted("/login", Requirement::SignIn, get(page::sign_in)),
        Route { method: Method::POST, ..Route::unlisted("/login", Requirement::SignIn, post(page::signed_in)) },
        Route { method: Method::POST, ..Route::unlisted("/logout", Requirement::SignIn, post(page::signed_out)) },
        Route::unlisted("/assets/{name}", Requirement::Nothing, get(page::asset)),
        Route::unlisted("/icon.svg", Requirement::Nothing, get(page::icon)),
    ];
    first.into_iter().chain(hooks).chain(last).collect()
});

/// A route.
#[derive(Debug)]
struct Route {
    method: Method,
    /// The path; a part in braces matches any one segment.
    path: &'static str,
    /// The path up to the first such part.
    fixed: &'static str,
    requirement: Requirement,
    dispatch: Dispatch,
    /// A one-line description; `None` for an unlisted route.
    summary: Option<&'static str>,
    /// Boxed, so that scanning the table touches little memory.
    handler: Box<MethodRouter<HandlerState>>,
}

/// How a request reaches its handler. High-volume routes bypass the router.
#[derive(Clone, Copy, Debug)]
pub(super) enum Dispatch {
    /// Through the router.
    Router,
    /// To the handler of state pushes.
    State,
    /// To the handler of usage pushes.
    Usage,
    /// To the handler of custom metrics.
    Metrics,
    /// To the handler of hooks.
    Hook(&'static HookTool),
    /// To the handler of LiteLLM's callbacks.
    Callback,
    /// To the handler of OTLP, on every listener and for any method, since errors need OTLP's encoding.
    Export(Signal),
}

impl Route {
    fn get<T: 'static>(
        path: &'static str,
        requirement: impl Into<Requirement>,
        handler: impl Handler<T, HandlerState>,
        summary: &'static str,
    ) -> Self {
        Self { summary: Some(summary), ..Self::unlisted(path, requirement, get(handler)) }
    }

    fn post<T: 'static>(
        path: &'static str,
        role: Role,
        handler: impl Handler<T, HandlerState>,
        summary: &'static str,
    ) -> Self {
        Self { method: Method::POST, summary: Some(summary), ..Self::unlisted(path, role, post(handler)) }
    }

    fn patch<T: 'static>(
        path: &'static str,
        role: Role,
        handler: impl Handler<T, HandlerState>,
        summary: &'static str,
    ) -> Self {
        Self { method: Method::PATCH, summary: Some(summary), ..Self::unlisted(path, role, patch(handler)) }
    }

    fn delete<T: 'static>(
        path: &'static str,
        role: Role,
        handler: impl Handler<T, HandlerState>,
        summary: &'static str,
    ) -> Self {
        Self { method: Method::DELETE, summary: Some(summary), ..Self::unlisted(path, role, delete(handler)) }
    }

    /// A route for data from agents. The router only rejects its other methods.
    fn direct(path: &'static str, way: Dispatch, summary: &'static str) -> Self {
        Self { dispatch: way, ..Self::post(path, Ingest, async || StatusCode::NOT_FOUND, summary) }
    }

    /// A gRPC method.
    fn grpc(path: &'static str, signal: Signal) -> Self {
        Self { summary: None, ..Self::direct(path, Dispatch::Export(signal), "") }
    }

    fn unlisted(path: &'static str, requirement: impl Into<Requirement>, handler: MethodRouter<HandlerState>) -> Self {
        Self {
            method: Method::GET,
            path,
            fixed: path.split_once('{').map_or(path, |(fixed, _)| fixed),
            requirement: requirement.into(),
            dispatch: Dispatch::Router,
            summary: None,
            handler: Box::new(handler),
        }
    }

    /// Whether `path` matches.
    fn matches_path(&self, path: &str) -> bool {
        if self.fixed.len() == self.path.len() {
            return self.path == path;
        }
        if !path.starts_with(self.fixed) {
            return false;
        }
        let (mut given, mut own) = (path.split('/'), self.path.split('/'));
        loop {
            match (given.next(), own.next()) {
                (None, None) => return true,
                (Some(given), Some(own)) if given == own || own.starts_with('{') && !given.is_empty() => {}
                _ => return false,
            }
        }
    }

    fn matches_method(&self, method: &Method) -> bool {
        self.method == *method
            || self.method == Method::GET && *method == Method::HEAD
            || matches!(self.dispatch, Dispatch::Export(_))
    }
}

/// The route of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct RouteMatch {
    /// What the request needs.
    pub(super) requirement: Requirement,
    /// How it reaches its handler.
    pub(super) dispatch: Dispatch,
}

impl RouteMatch {
    /// Whether there is a route at `path`, whatever its method.
    fn is_path(path: &str) -> bool {
        ROUTES.iter().any(|route| route.matches_path(path))
    }

    /// The route of `method` and `path`. An unknown route needs the role `read` for reading, otherwise the role of another
    /// method of the path or `admin`, so that unauthenticated callers cannot probe for routes.
    pub(super) fn of(method: &Method, path: &str) -> Self {
        let is_read = |method: &Method| matches!(*method, Method::GET | Method::HEAD);
        let mut requirement = Requirement::Role(if is_read(method) { Read } else { Admin });
        for route in ROUTES.iter().filter(|route| route.matches_path(path)) {
            if route.matches_method(method) {
                return Self { requirement: route.requirement, dispatch: route.dispatch };
            }
            requirement = match (route.requirement, requirement) {
                (Requirement::Nothing, _) => Requirement::Nothing,
                (Requirement::Scrape(_), Requirement::Role(role)) => Requirement::Scrape(role),
                (Requirement::Role(_), Requirement::Role(_)) if is_read(method) == is_read(&route.method) => {
                    route.requirement
                }
                (_, requirement) => requirement,
            };
        }
        Self { requirement, dispatch: Dispatch::Router }
    }
}

/// The routes of a listener.
#[derive(Debug)]
pub(super) struct Routes {
    surface: Surface,
    context: ServerContext,
    router: Router,
}

impl Routes {
    /// The context of handlers.
    pub(super) const fn context(&self) -> &ServerContext {
        &self.context
    }

    pub(super) fn new(surface: Surface, context: ServerContext) -> Self {
        let sending = ResponseSender::new();
        let (own, engine, otlp) = (Arc::clone(&context.own), context.engine.clone(), context.otlp.clone());
        let scraper = Arc::new(Scraper::new(own, engine, otlp, sending.clone()));
        let readers = Arc::new(tokio::sync::Semaphore::new(READERS));
        let shared = HandlerState { scraper, sending, readers, context: context.clone() };
        let router = ROUTES
            .iter()
            .fold(Router::new(), |router, route| router.route(route.path, (*route.handler).clone()))
            .fallback(async || {
                ApiError::new(StatusCode::NOT_FOUND, "unknown route; GET / lists all routes").into_response()
            })
            .method_not_allowed_fallback(async || {
                ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed; see the `allow` header")
                    .into_response()
            })
            .with_state(shared);
        Self { surface, context, router }
    }
}

impl Routes {
    /// The answer of the router.
    async fn respond(&self, request: Request<RequestBody>) -> Response {
        match self.router.clone().oneshot(request.map(Body::new)).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// Handles one request.
pub(super) async fn answer(routes: &Routes, mut request: Request<RequestBody>, connection: Connection) -> Response {
    let context = &routes.context;
    let access = Arc::clone(&context.access.borrow());
    if let Some(prefix) = access.prefix()
        && let Some(redirection) = strip(prefix, &mut request)
    {
        return redirection;
    }
    let RouteMatch { requirement, dispatch } = RouteMatch::of(request.method(), request.uri().path());
    if requirement != Requirement::Nothing {
        if connection.is_reserved() {
            return ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too many concurrent requests; try again later")
                .into_response();
        }
        access.renew(request.headers()).await;
    }
    if let Some(token) = shared_link(&request) {
        let allowed = match routes.surface {
            Surface::Main => access.check_share(&request, &token, connection.ends()).await,
            _ => Err(ApiError::new(StatusCode::NOT_FOUND, OTLP_ONLY)),
        };
        if let Err(error) = allowed {
            return page::refused(&request, &access, error);
        }
        request.extensions_mut().insert(page::SharedLink);
        request.extensions_mut().insert(connection);
        return routes.respond(request).await;
    }
    let allowed = access.check(&request, requirement, connection.ends());
    if let Dispatch::Export(signal) = dispatch {
        return otlp::answer(context, signal, allowed.map(drop), request).await;
    }
    let caller = match allowed {
        Ok(caller) => caller,
        Err(error) => return page::refused(&request, &access, error),
    };
    if routes.surface != Surface::Main {
        return ApiError::new(StatusCode::NOT_FOUND, OTLP_ONLY).into_response();
    }
    match dispatch {
        Dispatch::State => pushes::state(context, request).await,
        Dispatch::Usage => pushes::usage(context, request).await,
        Dispatch::Metrics => pushes::metrics(context, request).await,
        Dispatch::Hook(tool) => hooks::answer(context, tool, request).await,
        Dispatch::Callback => callbacks::answer(context, request).await.unwrap_or_else(ApiError::into_response),
        Dispatch::Router | Dispatch::Export(_) => {
            request.extensions_mut().insert(caller);
            request.extensions_mut().insert(connection);
            routes.respond(request).await
        }
    }
}

/// The token of a request for the shared page.
fn shared_link<B>(request: &Request<B>) -> Option<String> {
    let is_page = request.uri().path() == "/" && matches!(*request.method(), Method::GET | Method::HEAD);
    let query = request.uri().query().filter(|_| is_page)?;
    form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "share").map(|(_, value)| value.into_owned())
}

/// Takes the path `prefix`, which a proxy has kept, from a request. Returns the answer to a request for the prefix itself: the
/// page's addresses are relative to the folder.
fn strip<B>(prefix: &str, request: &mut Request<B>) -> Option<Response> {
    let path = request.uri().path();
    let rest = path.strip_prefix(prefix)?;
    if RouteMatch::is_path(path) || !rest.is_empty() && !rest.starts_with('/') {
        return None;
    }
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    if rest.is_empty() {
        let folder = prefix.rsplit('/').next().unwrap_or_default();
        return Some(page::redirect(StatusCode::PERMANENT_REDIRECT, &format!("{folder}/{query}")));
    }
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = Some(format!("{rest}{query}").parse().ok()?);
    *request.uri_mut() = Uri::from_parts(parts).ok()?;
    None
}

/// `GET /`: the page for browsers, the list of routes for programs.
async fn root(
    shared: State<HandlerState>,
    reader: Extension<Connection>,
    link: Option<Extension<page::SharedLink>>,
    headers: HeaderMap,
    visit: page::Visit,
) -> Response {
    if link.is_some() {
        return page::shared(shared, reader, visit).await.into_response();
    }
    if page::wants_html(&headers) { page::fleet(shared, reader, visit).await.into_response() } else { list() }
}

/// The list of routes.
fn list() -> Response {
    let listed = ROUTES.iter().filter(|route| route.summary.is_some());
    let routes: Vec<String> = listed.map(|route| format!("\"{} {}\"", route.method, route.path)).collect();
    json_answer(StatusCode::OK, format!(r#"{{"name": "lookout", "routes": [{}]}}"#, routes.join(", ")))
}

/// `GET /api/openapi.json`: the routes with their roles, for programs.
fn openapi() -> Response {
    json_answer(StatusCode::OK, document().to_string())
}

/// The routes as an OpenAPI document, without schemas of bodies.
fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES.iter() {
        let Some(summary) = route.summary else { continue };
        let parameters = route
            .path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}));
        let security = match route.requirement.role() {
            Some(role) => json!([{"bearer": [role]}, {"basic": [role]}]),
            None => json!([]),
        };
        let operation = json!({
            "summary": summary,
            "parameters": parameters.collect::<Vec<_>>(),
            "security": security,
            "responses": {
                "2XX": {"description": "Success."},
                "default": {"$ref": "#/components/responses/Error"},
            },
        });
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(route.method.as_str().to_ascii_lowercase(), operation);
        }
    }
    let error = json!({"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}});
    json!({
        "openapi": "3.1.0",
        "info": {"title": "lookout", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "components": {
            "responses": {
                "Error": {
                    "description": "Error with a message. OTLP routes respond with a google.rpc.Status instead.",
                    "content": {"application/json": {"schema": error}},
                },
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A token from auth.tokens."},
                "basic": {"type": "http", "scheme": "basic", "description": "A token from auth.tokens as password, with any user name."},
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

    /// The requirement of each method of a path, in the order of [`METHODS`]: `-` for nothing, else the first letter of the
    /// role, upper case if it is open while no token is configured.
    fn needs(path: &str) -> String {
        let letter = |method: &str| match RouteMatch::of(&method.parse().expect("a method"), path).requirement {
            Requirement::Nothing => '-',
            Requirement::SignIn => 's',
            Requirement::Role(Read) => 'r',
            Requirement::Role(Ingest) => 'i',
            Requirement::Role(Admin) => 'a',
            Requirement::Scrape(Read) => 'R',
            Requirement::Scrape(Ingest) => 'I',
            Requirement::Scrape(Admin) => 'A',
        };
        METHODS.map(letter).iter().collect()
    }

    #[test]
    fn each_method_of_each_path_needs_its_role() {
        let mut tested = String::new();
        for (paths, expected) in [
            ("/metrics", "RRAAAAA"),
            ("/-/healthy /-/ready", "-------"),
            ("/api/state /api/usage /api/metrics /hooks/claude-code /hooks/litellm", "rriiiii"),
            ("/v1/metrics /v1/traces /v1/logs", "iiiiiii"),
            ("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", "iiiiiii"),
            ("/opentelemetry.proto.collector.trace.v1.TraceService/Export", "iiiiiii"),
            ("/opentelemetry.proto.collector.logs.v1.LogsService/Export", "iiiiiii"),
            ("/ /api/status /api/alerts /api/telemetry /api/openapi.json /api/monitoring/stream", "rraaaaa"),
            ("/alerts /alert /agent /runs /run /compare /setup", "rraaaaa"),
            ("/assets/y /icon.svg", "-------"),
            ("/login", "sssaaaa"),
            ("/logout", "rrsaaaa"),
            ("/api/alerts/0123456789abcdef/why /api/alerts/0123456789abcdef/ack", "rraaaaa"),
            ("/api/receivers/y/test", "rraaaaa"),
            (
                "/api/silences /api/silences/preview /api/silences/x /-/reload /api/monitoring/start /api/monitoring/stop",
                "rraaaaa",
            ),
            ("/api/traces", "rriaaaa"),
            ("/api/traces/x /api/tasks/x /api/agents/stats /agents /agents/x /agents/x/y", "rraaaaa"),
            ("/agents/register", "rriaaaa"),
            ("/agents/x/trace/start /agents/x/y/trace/start /agents/x/trace/end /agents/x/y/trace/end", "rriiiii"),
            // An agent may be named so.
            ("/agents/x/invoke", "rriiaai"),
            ("/agents/x/y/invoke", "rriiiii"),
            // Unknown routes that look similar.
            (
                "/api/state/ //api/state /API/state /api/states /v1/profiles /v1/metrics/ /hooks /hooks/nothing",
                "rraaaaa",
            ),
            ("/metrics/ /metrics/x /-/healthy/ /-/healthy/x /-/live /api/alerts//why /api/silences/", "rraaaaa"),
            ("/api/alerts/a/b/why /api/alerts/{fingerprint}/ack/x * /api/%73tate", "rraaaaa"),
            ("/opentelemetry.proto.collector.logs.v1.LogsService/export", "rraaaaa"),
        ] {
            for path in paths.split(' ') {
                assert_eq!(needs(path), expected, "{path}");
            }
            tested.extend([" ", paths, " "]);
        }
        for route in ROUTES.iter() {
            let path =
                route.path.replace("{fingerprint}", "0123456789abcdef").replace("{id}", "x").replace("{name}", "y");
            assert!(tested.contains(&format!(" {path} ")), "{path} is not tested");
        }
    }

    #[test]
    fn path_parameters_match_one_segment() {
        let at = |path: &str| {
            ROUTES.iter().filter(|route| route.matches_path(path)).map(|route| route.path).collect::<Vec<_>>()
        };
        assert_eq!(at("/api/silences/x"), ["/api/silences/{id}"]);
        assert_eq!(at("/api/alerts/a%2Fb/why"), ["/api/alerts/{fingerprint}/why"]);
        for path in ["/api/silences/", "/api/silences/x/", "/api/silences/x/y", "/api/alerts//why", "/api/alerts/why"] {
            assert!(at(path).is_empty(), "{path}");
        }
    }

    #[test]
    fn the_openapi_document_is_valid() {
        let document = document();
        assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1.")));
        assert!(document["info"]["title"].is_string() && document["info"]["version"].is_string());
        let schemes = document["components"]["securitySchemes"].as_object().expect("schemes");
        let mut operations = 0;
        for (path, methods) in document["paths"].as_object().expect("paths") {
            assert!(path.starts_with('/'), "{path}");
            let path_parameters: Vec<&str> =
                path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
            for (method, operation) in methods.as_object().expect("operations") {
                operations += 1;
                assert!(["get", "post", "patch", "delete"].contains(&&**method), "{path} {method}");
                assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{path}");
                let parameters = operation["parameters"].as_array().expect("parameters");
                let named: Vec<&str> = parameters.iter().filter_map(|one| one["name"].as_str()).collect();
                assert_eq!(named, path_parameters, "{path}");
                assert!(parameters.iter().all(|one| one["in"] == "path" && one["required"] == true));
                for requirement in operation["security"].as_array().expect("security") {
                    assert!(requirement.as_object().expect("a scheme").keys().all(|name| schemes.contains_key(name)));
                }
                let reference = operation["responses"]["default"]["$ref"].as_str().expect("a reference");
                assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
            }
        }
        assert_eq!(operations, ROUTES.iter().filter(|route| route.summary.is_some()).count());
        assert_eq!(document["paths"]["/api/state"]["post"]["security"][0]["bearer"], json!(["ingest"]));
        assert_eq!(document["paths"]["/-/healthy"]["get"]["security"], json!([]));
    }
}
