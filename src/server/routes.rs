//! The table of routes: one line each, with the role that it needs, its handler and what it is for. The router, the rights
//! of a request, the list at `GET /` and `GET /api/openapi.json` come from it.
//!
//! Owns the way from method and path to a handler. Refuses to judge who calls: [`super::access`] holds a caller against
//! what is needed here.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::body::Body;
use axum::handler::Handler;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, delete, get, post};
use http::{Method, Request, StatusCode};
use serde_json::{Map, Value, json};
use tower::ServiceExt as _;

use super::access::Needs;
use super::connections::{Arriving, Connection};
use super::error::{Refusal, json as json_answer};
use super::scrape::Scraper;
use super::sending::Sending;
use super::{Context, Shared, Surface, api, callbacks, hooks, otlp, pushes, quiet};
use crate::config::server::Role::{self, Admin, Ingest, Read};
use crate::ingest::hooks::{HookTool, TOOLS};
use crate::otlp::Signal;

/// Every route.
static ROUTES: LazyLock<Vec<Route>> = LazyLock::new(|| {
    let first = [
        Route::get("/metrics", Needs::Scrape(Read), api::metrics, "the page for Prometheus"),
        Route::get("/api/status", Read, api::status, "projects, agents, components, sources and receivers"),
        Route::get("/api/metrics", Read, api::totals, "totals and averages"),
        Route::get("/api/alerts", Read, api::alerts, "active alerts, then those that are over"),
        Route::get("/api/alerts/{fingerprint}/why", Read, quiet::why, "every decision about an alert"),
        Route::post("/api/alerts/{fingerprint}/ack", Admin, quiet::acknowledge, "acknowledge an alert"),
        Route::get("/api/silences", Read, quiet::list, "silences"),
        Route::post("/api/silences", Admin, quiet::begin, "begin or change a silence"),
        Route::delete("/api/silences/{id}", Admin, quiet::end, "end a silence"),
        Route::get("/api/telemetry", Read, api::telemetry, "which signals and hooks of which agents arrive"),
        Route::past_router("/api/state", Way::State, "states of agents and components"),
        Route::past_router("/api/usage", Way::Usage, "increments of usage"),
    ];
    let hook =
        |tool: &&'static HookTool| Route::past_router(tool.path, Way::Hook(tool), "an event of the tool's hooks");
    let hooks = TOOLS.iter().map(hook);
    let last = [
        Route::past_router("/hooks/litellm", Way::Callback, "calls that LiteLLM's generic API callback posts"),
        Route::past_router("/v1/metrics", Way::Export(Signal::Metrics), "metrics as OTLP"),
        Route::past_router("/v1/traces", Way::Export(Signal::Traces), "spans as OTLP"),
        Route::past_router("/v1/logs", Way::Export(Signal::Logs), "log records as OTLP"),
        Route::grpc("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", Signal::Metrics),
        Route::grpc("/opentelemetry.proto.collector.trace.v1.TraceService/Export", Signal::Traces),
        Route::grpc("/opentelemetry.proto.collector.logs.v1.LogsService/Export", Signal::Logs),
        Route::post("/api/monitoring/start", Admin, api::start, "judge and poll again"),
        Route::post("/api/monitoring/stop", Admin, api::stop, "pause judging and polling"),
        Route::get("/-/healthy", Needs::Nothing, api::healthy, "whether all parts of the program run"),
        Route::get("/-/ready", Needs::Nothing, api::ready, "whether the store can be written"),
        Route::post("/-/reload", Admin, api::reload, "read the configuration again"),
        Route::get("/api/openapi.json", Read, async || openapi(), "these routes as OpenAPI 3.1"),
        Route::unlisted("/", Read, get(async || list())),
    ];
    first.into_iter().chain(hooks).chain(last).collect()
});

/// A route.
#[derive(Debug)]
struct Route {
    method: Method,
    /// Its path; what is between braces stands for any one segment.
    path: &'static str,
    has_places: bool,
    needs: Needs,
    way: Way,
    /// What it is for, in a line; none for one that people have no use for.
    summary: Option<&'static str>,
    /// Apart, so that a look through the table reads little.
    handler: Box<MethodRouter<Shared>>,
}

/// How a request gets to its handler. What comes in by the thousand goes past the router.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// By the router.
    Router,
    /// To those who take in states.
    State,
    /// To those who take in usage.
    Usage,
    /// To those who take in hooks.
    Hook(&'static HookTool),
    /// To those who take in LiteLLM's callbacks.
    Callback,
    /// To those who take in OTLP, on every listener and by any method: a refusal is put in OTLP's own words.
    Export(Signal),
}

impl Route {
    fn get<T: 'static>(
        path: &'static str,
        needs: impl Into<Needs>,
        handler: impl Handler<T, Shared>,
        summary: &'static str,
    ) -> Self {
        Self { summary: Some(summary), ..Self::unlisted(path, needs, get(handler)) }
    }

    fn post<T: 'static>(
        path: &'static str,
        role: Role,
        handler: impl Handler<T, Shared>,
        summary: &'static str,
    ) -> Self {
        Self { method: Method::POST, summary: Some(summary), ..Self::unlisted(path, role, post(handler)) }
    }

    fn delete<T: 'static>(
        path: &'static str,
        role: Role,
        handler: impl Handler<T, Shared>,
        summary: &'static str,
    ) -> Self {
        Self { method: Method::DELETE, summary: Some(summary), ..Self::unlisted(path, role, delete(handler)) }
    }

    /// A route for what agents and their tools send. The router knows it for its other methods, which it refuses.
    fn past_router(path: &'static str, way: Way, summary: &'static str) -> Self {
        Self { way, ..Self::post(path, Ingest, async || StatusCode::NOT_FOUND, summary) }
    }

    /// A method of gRPC, which its protocol names.
    fn grpc(path: &'static str, signal: Signal) -> Self {
        Self { summary: None, ..Self::past_router(path, Way::Export(signal), "") }
    }

    fn unlisted(path: &'static str, needs: impl Into<Needs>, handler: MethodRouter<Shared>) -> Self {
        Self {
            method: Method::GET,
            path,
            has_places: path.contains('{'),
            needs: needs.into(),
            way: Way::Router,
            summary: None,
            handler: Box::new(handler),
        }
    }

    /// Whether `path` is one of its.
    fn is_at(&self, path: &str) -> bool {
        if !self.has_places {
            return self.path == path;
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

    fn takes(&self, method: &Method) -> bool {
        self.method == *method
            || self.method == Method::GET && *method == Method::HEAD
            || matches!(self.way, Way::Export(_))
    }
}

/// What a request asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// What its sender needs.
    pub(super) needs: Needs,
    /// How it gets to its handler.
    pub(super) way: Way,
}

impl Asked {
    /// What a request for `method` and `path` asks for. Where there is nothing, asking needs the right to read, and anything
    /// else that of the method that the path does take, or all rights: strangers are not told what there is.
    pub(super) fn of(method: &Method, path: &str) -> Self {
        let is_read = |method: &Method| matches!(*method, Method::GET | Method::HEAD);
        let mut needs = Needs::Role(if is_read(method) { Read } else { Admin });
        for route in ROUTES.iter().filter(|route| route.is_at(path)) {
            if route.takes(method) {
                return Self { needs: route.needs, way: route.way };
            }
            needs = match (route.needs, needs) {
                (Needs::Nothing, _) => Needs::Nothing,
                (Needs::Scrape(_), Needs::Role(role)) => Needs::Scrape(role),
                (Needs::Role(_), Needs::Role(_)) if is_read(method) == is_read(&route.method) => route.needs,
                (_, needs) => needs,
            };
        }
        Self { needs, way: Way::Router }
    }
}

/// Everything that a listener serves.
#[derive(Debug)]
pub(super) struct Routes {
    surface: Surface,
    context: Context,
    router: Router,
}

impl Routes {
    /// What the routes work with.
    pub(super) const fn context(&self) -> &Context {
        &self.context
    }

    pub(super) fn new(surface: Surface, context: Context) -> Self {
        let sending = Sending::new();
        let (own, engine, otlp) = (Arc::clone(&context.own), context.engine.clone(), context.otlp.clone());
        let scraper = Arc::new(Scraper::new(own, engine, otlp, sending.clone()));
        let shared = Shared { scraper, sending, context: context.clone() };
        let router = ROUTES
            .iter()
            .fold(Router::new(), |router, route| router.route(route.path, (*route.handler).clone()))
            .fallback(async || {
                Refusal::new(StatusCode::NOT_FOUND, "there is nothing here; GET / lists what there is").into_response()
            })
            .method_not_allowed_fallback(async || {
                Refusal::new(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "this route does not take that method; see the header Allow",
                )
                .into_response()
            })
            .with_state(shared);
        Self { surface, context, router }
    }
}

/// Answers one request.
pub(super) async fn answer(routes: &Routes, mut request: Request<Arriving>, connection: Connection) -> Response {
    let context = &routes.context;
    let access = Arc::clone(&context.access.borrow());
    let Asked { needs, way } = Asked::of(request.method(), request.uri().path());
    if needs != Needs::Nothing {
        if connection.is_reserved() {
            return Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many requests are under way; try again")
                .into_response();
        }
        access.renew(request.headers()).await;
    }
    let allowed = access.check(&request, needs, connection.local());
    if let Way::Export(signal) = way {
        return otlp::answer(context, signal, allowed.map(drop), request).await;
    }
    let caller = match allowed {
        Ok(caller) => caller,
        Err(refusal) => return refusal.into_response(),
    };
    if routes.surface != Surface::Main {
        let message = "only OTLP is received here: POST /v1/metrics, /v1/traces, /v1/logs";
        return Refusal::new(StatusCode::NOT_FOUND, message).into_response();
    }
    match way {
        Way::State => pushes::state(context, request).await,
        Way::Usage => pushes::usage(context, request).await,
        Way::Hook(tool) => hooks::answer(context, tool, request).await,
        Way::Callback => callbacks::answer(context, request).await.unwrap_or_else(Refusal::into_response),
        Way::Router | Way::Export(_) => {
            request.extensions_mut().insert(caller);
            request.extensions_mut().insert(connection);
            match routes.router.clone().oneshot(request.map(Body::new)).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        }
    }
}

/// `GET /`: what there is, for one who opens the address.
fn list() -> Response {
    let listed = ROUTES.iter().filter(|route| route.summary.is_some());
    let routes: Vec<String> = listed.map(|route| format!("\"{} {}\"", route.method, route.path)).collect();
    json_answer(StatusCode::OK, format!(r#"{{"name": "lookout", "routes": [{}]}}"#, routes.join(", ")))
}

/// `GET /api/openapi.json`: the same for programs, with the roles.
fn openapi() -> Response {
    json_answer(StatusCode::OK, document().to_string())
}

/// The routes as an OpenAPI document. Bodies are left to the documentation.
fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES.iter() {
        let Some(summary) = route.summary else { continue };
        let parameters = route
            .path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}));
        let security = match route.needs.role() {
            Some(role) => json!([{"bearer": [role]}, {"basic": [role]}]),
            None => json!([]),
        };
        let operation = json!({
            "summary": summary,
            "parameters": parameters.collect::<Vec<_>>(),
            "security": security,
            "responses": {
                "2XX": {"description": "It was done; the body is what was asked for."},
                "default": {"$ref": "#/components/responses/Refusal"},
            },
        });
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(route.method.as_str().to_ascii_lowercase(), operation);
        }
    }
    let refusal = json!({"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}});
    json!({
        "openapi": "3.1.0",
        "info": {"title": "lookout", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "components": {
            "responses": {
                "Refusal": {
                    "description": "It was refused, and why. OTLP is refused with the status that its protocol has.",
                    "content": {"application/json": {"schema": refusal}},
                },
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A token of auth.tokens."},
                "basic": {"type": "http", "scheme": "basic", "description": "The same as password, with any name."},
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

    /// What each method needs on a path, in the order of [`METHODS`]: `-` for nothing, else the first letter of the role,
    /// large where it is open while there are no tokens.
    fn needs(path: &str) -> String {
        let letter = |method: &str| match Asked::of(&method.parse().expect("a method"), path).needs {
            Needs::Nothing => '-',
            Needs::Role(Read) => 'r',
            Needs::Role(Ingest) => 'i',
            Needs::Role(Admin) => 'a',
            Needs::Scrape(Read) => 'R',
            Needs::Scrape(Ingest) => 'I',
            Needs::Scrape(Admin) => 'A',
        };
        METHODS.map(letter).iter().collect()
    }

    #[test]
    fn each_method_of_each_path_needs_its_role() {
        let mut tested = String::new();
        for (paths, expected) in [
            ("/metrics", "RRAAAAA"),
            ("/-/healthy /-/ready", "-------"),
            ("/api/state /api/usage /hooks/claude-code /hooks/litellm", "rriiiii"),
            ("/v1/metrics /v1/traces /v1/logs", "iiiiiii"),
            ("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", "iiiiiii"),
            ("/opentelemetry.proto.collector.trace.v1.TraceService/Export", "iiiiiii"),
            ("/opentelemetry.proto.collector.logs.v1.LogsService/Export", "iiiiiii"),
            ("/ /api/status /api/metrics /api/alerts /api/telemetry /api/openapi.json", "rraaaaa"),
            ("/api/alerts/0123456789abcdef/why /api/alerts/0123456789abcdef/ack", "rraaaaa"),
            ("/api/silences /api/silences/x /-/reload /api/monitoring/start /api/monitoring/stop", "rraaaaa"),
            // What there is not, though it looks like it.
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
            let path = route.path.replace("{fingerprint}", "0123456789abcdef").replace("{id}", "x");
            assert!(tested.contains(&format!(" {path} ")), "{path} is not tested");
        }
    }

    #[test]
    fn paths_with_places_stand_for_one_segment() {
        let at =
            |path: &str| ROUTES.iter().filter(|route| route.is_at(path)).map(|route| route.path).collect::<Vec<_>>();
        assert_eq!(at("/api/silences/x"), ["/api/silences/{id}"]);
        assert_eq!(at("/api/alerts/a%2Fb/why"), ["/api/alerts/{fingerprint}/why"]);
        for path in ["/api/silences/", "/api/silences/x/", "/api/silences/x/y", "/api/alerts//why", "/api/alerts/why"] {
            assert!(at(path).is_empty(), "{path}");
        }
    }

    #[test]
    fn the_document_is_openapi() {
        let document = document();
        assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1.")));
        assert!(document["info"]["title"].is_string() && document["info"]["version"].is_string());
        let schemes = document["components"]["securitySchemes"].as_object().expect("schemes");
        let mut operations = 0;
        for (path, methods) in document["paths"].as_object().expect("paths") {
            assert!(path.starts_with('/'), "{path}");
            let places: Vec<&str> =
                path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
            for (method, operation) in methods.as_object().expect("operations") {
                operations += 1;
                assert!(["get", "post", "delete"].contains(&&**method), "{path} {method}");
                assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{path}");
                let parameters = operation["parameters"].as_array().expect("parameters");
                let named: Vec<&str> = parameters.iter().filter_map(|one| one["name"].as_str()).collect();
                assert_eq!(named, places, "{path}");
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
