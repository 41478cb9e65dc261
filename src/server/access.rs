//! Access control: addresses, `Host` and `Origin`, tokens and roles.
//!
//! A foreign web page can send requests to any address that its visitor's browser reaches (CSRF, DNS rebinding), but it
//! cannot choose `Host` and `Origin`. Both must therefore be our own, on every listener and route.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use subtle::ConstantTimeEq as _;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::error::ApiError;
use crate::config::server::{Role, host_and_port, is_sendable};
use crate::config::{Config, ConfigError};
use crate::model::Problem;
use crate::secret::{Secret, SecretSource};

/// How long a token that was read from a file is valid without reading it again.
const FRESH: Duration = Duration::from_secs(1);
/// Minimum time between two reads of the token files.
const PAUSE: Duration = Duration::from_millis(50);

/// Headers by which a browser describes the origin and purpose of a request.
const FETCH_SITE: &str = "sec-fetch-site";
const FETCH_MODE: &str = "sec-fetch-mode";
const FETCH_DEST: &str = "sec-fetch-dest";

/// What a request needs to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Requirement {
    /// Nothing: `Host` and `Origin` are not checked either.
    Nothing,
    /// A role.
    Role(Role),
    /// A role, or nothing on a non-loopback address while no token is configured.
    Scrape(Role),
}

impl Requirement {
    /// The required role, if any.
    pub(super) const fn role(self) -> Option<Role> {
        match self {
            Self::Nothing => None,
            Self::Role(role) | Self::Scrape(role) => Some(role),
        }
    }
}

impl From<Role> for Requirement {
    fn from(role: Role) -> Self {
        Self::Role(role)
    }
}

/// The access rules of one listener.
#[derive(Debug)]
pub struct AccessRules {
    tokens: Vec<Arc<ConfiguredToken>>,
    /// When the last read of the token files began. Locked while reading: waiting requests share that read.
    last_read: tokio::sync::Mutex<Option<Instant>>,
    loopback: Option<Role>,
    allowed_hosts: Vec<HostAndPort>,
    /// `external_url` as scheme, host and port.
    external: Option<(String, String, u16)>,
    is_tls: bool,
    address: SocketAddr,
}

/// A host in lower case, and its port if given.
type HostAndPort = (String, Option<u16>);

#[derive(Debug)]
struct ConfiguredToken {
    name: Arc<str>,
    role: Role,
    source: SecretSource,
    /// The last read value, and when it was read.
    known: Mutex<Option<(Instant, Secret)>>,
}

impl ConfiguredToken {
    fn known(&self) -> MutexGuard<'_, Option<(Instant, Secret)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `given` is the last read value.
    fn is(&self, given: &[u8]) -> bool {
        self.known().as_ref().is_some_and(|(_, secret)| secret.expose().as_bytes().ct_eq(given).into())
    }

    /// Whether the value is recent or cannot change.
    fn is_fresh(&self) -> bool {
        let is_file = matches!(self.source, SecretSource::File(_));
        !is_file || self.known().as_ref().is_some_and(|(at, _)| at.elapsed() < FRESH)
    }

    /// Reads the token again. After a timeout the last value stays valid, so that a hanging mount does not lock out all callers.
    async fn renew(&self) {
        let read = self.source.read().await;
        let (now, mut known) = (Instant::now(), self.known());
        match (read, known.take()) {
            (Ok(secret), _) => *known = Some((now, secret)),
            (Err(error), Some((_, secret))) if error.is_late() => {
                *known = Some((now, secret));
                drop(known);
                tracing::error!(
                    token = &*self.name,
                    error = error.in_full(),
                    "reading the token file timed out; the last value stays valid"
                );
            }
            (Err(error), Some(_)) => {
                drop(known);
                tracing::error!(
                    token = &*self.name,
                    error = error.in_full(),
                    "token file is not readable; requests with this token are rejected"
                );
            }
            // Already logged.
            (Err(_), None) => {}
        }
    }
}

/// The authenticated caller: the name of its token, if it sent one.
#[derive(Clone, Debug, Default)]
pub(super) struct Caller {
    token: Option<Arc<str>>,
    /// The role, unless it is not restricted.
    role: Option<Role>,
}

impl Caller {
    /// Whether it may do everything.
    pub(super) fn is_admin(&self) -> bool {
        self.role.is_none_or(|role| role == Role::Admin)
    }

    /// The caller's name for announcements; `claimed` is the name that the request gives.
    pub(super) fn name(&self, claimed: Option<&str>) -> String {
        match (claimed.filter(|name| !name.is_empty()), &self.token) {
            (Some(name), Some(token)) => format!("{name} (token {token})"),
            (Some(name), None) => name.to_owned(),
            (None, Some(token)) => format!("token {token}"),
            (None, None) => "a local client without a token".to_owned(),
        }
    }
}

impl AccessRules {
    /// The access rules of a listener at `address`. The error names each unusable token.
    pub fn new(config: &Config, address: SocketAddr) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let mut known: Vec<Secret> = Vec::new();
        let mut tokens = Vec::new();
        for (index, token) in config.auth.tokens.iter().enumerate() {
            let mut report = |key: &str, message: String| {
                problems.push(Problem::new(format!("auth.tokens[{index}].{key}"), message));
            };
            let source = match token.source() {
                Ok(source) => source,
                Err(message) => {
                    report("token", message.to_owned());
                    continue;
                }
            };
            let key = source.key("token", "token_file");
            let read = source.read_blocking();
            let token_now = read.as_ref().ok().map(|secret| (Instant::now(), secret.clone()));
            match read {
                Err(error) => report(key, error.in_full()),
                Ok(secret) if known.contains(&secret) => {
                    report(key, "duplicate token: give each entry of auth.tokens its own".to_owned());
                }
                Ok(secret) if !is_sendable(secret.expose()) => {
                    report(key, "contains surrounding white space or control characters, which cannot be sent in a header; remove them".to_owned());
                }
                Ok(secret) => known.push(secret),
            }
            tokens.push(Arc::new(ConfiguredToken {
                name: Arc::from(token.name.as_str()),
                role: token.role,
                source,
                known: Mutex::new(token_now),
            }));
        }
        if !problems.is_empty() {
            return Err(ConfigError { problems });
        }
        let external = reqwest::Url::parse(&config.external_url.0).ok().and_then(|url| {
            let (host, _) = host_and_port(url.host_str()?).ok()?;
            Some((url.scheme().to_owned(), host, url.port_or_known_default()?))
        });
        Ok(Self {
            tokens,
            last_read: tokio::sync::Mutex::default(),
            loopback: config.auth.loopback,
            allowed_hosts: config.allowed_hosts.iter().filter_map(|host| host_and_port(host).ok()).collect(),
            external,
            is_tls: config.tls.cert_file.is_some(),
            address,
        })
    }

    /// Reads the token files again, unless the request has a token that was read recently. Called before
    /// [`AccessRules::check`], which does not wait.
    pub(super) async fn renew(&self, headers: &HeaderMap) {
        let Some(given) = given(headers) else { return };
        // All tokens are compared, so that the timing does not reveal which one matched.
        let is_known = self.tokens.iter().fold(false, |known, token| known | (token.is(&given) & token.is_fresh()));
        if !is_known {
            self.read_files().await;
        }
    }

    /// Reads all token files. Concurrent requests share one read, and reads are rate-limited, since anyone can send a wrong
    /// token.
    async fn read_files(&self) {
        let files = || self.tokens.iter().filter(|token| matches!(token.source, SecretSource::File(_)));
        if files().next().is_none() {
            return;
        }
        let requested_at = Instant::now();
        let mut last_read = self.last_read.lock().await;
        if let Some(last) = *last_read {
            if last >= requested_at {
                return;
            }
            tokio::time::sleep_until(last + PAUSE).await;
        }
        let began = Instant::now();
        let mut reads = JoinSet::new();
        for token in files() {
            let token = Arc::clone(token);
            reads.spawn(async move { token.renew().await });
        }
        while reads.join_next().await.is_some() {}
        *last_read = Some(began);
    }

    /// Checks whether a request to our address `local` meets the `requirement`, and returns its caller.
    pub(super) fn check<B>(
        &self,
        request: &Request<B>,
        requirement: Requirement,
        local: IpAddr,
    ) -> Result<Caller, ApiError> {
        let headers = request.headers();
        let anonymous = Caller::default();
        let Some(needed) = requirement.role() else { return Ok(anonymous) };
        let hosts = hosts(request)?;
        self.check_hosts(&hosts, local)?;
        self.check_origin(headers, &hosts, local)?;
        check_site(request.method(), headers)?;
        let is_loopback = self.address.ip().is_loopback();
        if self.tokens.is_empty() {
            return match (is_loopback, self.loopback) {
                (true, Some(role)) if needed > role => Err(forbidden(
                    "the role of auth.loopback does not permit this request; send a token with the needed role",
                )),
                (true, role) => Ok(Caller { role, ..anonymous }),
                (false, _) if matches!(requirement, Requirement::Scrape(_)) => Ok(anonymous),
                (false, _) => Err(forbidden("access from other machines needs a token; configure auth.tokens")),
            };
        }
        let token = self.token_of(headers);
        // With `auth.loopback` local callers have that role without a token.
        let role = token.map(|token| token.role).or(self.loopback.filter(|_| is_loopback));
        match role {
            Some(role) if role >= needed => {
                Ok(Caller { token: token.map(|token| Arc::clone(&token.name)), role: Some(role) })
            }
            Some(_) => Err(forbidden("the role of the token does not permit this request")),
            None => Err(ApiError {
                header: Some((header::WWW_AUTHENTICATE, "Bearer realm=\"lookout\", Basic realm=\"lookout\"")),
                ..ApiError::new(
                    StatusCode::UNAUTHORIZED,
                    "missing or unknown token; send one as `authorization: Bearer <token>`",
                )
            }),
        }
    }

    /// The token of the request with the highest role.
    fn token_of(&self, headers: &HeaderMap) -> Option<&ConfiguredToken> {
        let given = given(headers)?;
        // All tokens are compared, so that the timing does not reveal which one matched.
        self.tokens.iter().fold(None, |best: Option<&ConfiguredToken>, one| match one.is(&given) {
            true if best.is_none_or(|best| best.role < one.role) => Some(one),
            _ => best,
        })
    }

    /// Rejects host names that are not ours (DNS rebinding).
    fn check_hosts(&self, hosts: &[HostAndPort], local: IpAddr) -> Result<(), ApiError> {
        match hosts.iter().find(|host| !self.is_ours(host, local)) {
            None => Ok(()),
            Some((host, _)) => {
                let shown = crate::text::clean(host, 100);
                Err(forbidden(&format!("unknown Host `{shown}`; add it to allowed_hosts")))
            }
        }
    }

    /// Rejects requests of web pages from other origins, also from other local ports. Programs send no `Origin`.
    fn check_origin(&self, headers: &HeaderMap, hosts: &[HostAndPort], local: IpAddr) -> Result<(), ApiError> {
        let is_ours = |origin: &HeaderValue| {
            let (scheme, rest) = origin.to_str().ok()?.split_once("://")?;
            let default = match scheme {
                "http" => 80,
                "https" => 443,
                _ => return None,
            };
            let (host, port) = host_and_port(rest).ok()?;
            let port = port.unwrap_or(default);
            if self.external.as_ref().is_some_and(|(s, h, p)| (&**s, h, *p) == (scheme, &host, port)) {
                return Some(());
            }
            // Our own page, under the host and port of the request, which may be those of a port mapping.
            let is_requested = hosts
                .iter()
                .any(|(requested, requested_port)| *requested == host && requested_port.unwrap_or(default) == port);
            let is_named = match host.parse::<IpAddr>() {
                Ok(ip) => ip == local,
                Err(_) => host == "localhost" && local.is_loopback(),
            };
            let is_own_scheme = scheme == if self.is_tls { "https" } else { "http" };
            (is_own_scheme && (is_requested || is_named && port == self.address.port())).then_some(())
        };
        if headers.get_all(header::ORIGIN).iter().all(|origin| is_ours(origin).is_some()) {
            return Ok(());
        }
        Err(forbidden("cross-origin request rejected; behind a reverse proxy set external_url to the public address"))
    }

    fn is_ours(&self, host: &HostAndPort, local: IpAddr) -> bool {
        let (name, port) = host;
        let is_address =
            |ip: IpAddr| ip.is_loopback() || ip == local.to_canonical() || ip == self.address.ip().to_canonical();
        name == "localhost"
            || name.parse::<IpAddr>().is_ok_and(is_address)
            || self.external.as_ref().is_some_and(|(_, external, _)| external == name)
            || self.allowed_hosts.iter().any(|(allowed, at)| allowed == name && (at.is_none() || at == port))
    }
}

/// All hosts that the request names: in `Host` headers, and in its target (HTTP/2).
fn hosts<B>(request: &Request<B>) -> Result<Vec<HostAndPort>, ApiError> {
    let in_headers = request.headers().get_all(header::HOST).iter().map(HeaderValue::to_str);
    let in_target = request.uri().authority().map(|authority| Ok(authority.as_str()));
    let read = |host: Result<&str, header::ToStrError>| {
        let host = host.map_err(|_| forbidden("invalid Host header: not text"))?;
        host_and_port(host).map_err(|message| forbidden(&format!("invalid Host header: {message}")))
    };
    in_headers.chain(in_target).map(read).collect()
}

/// Rejects requests that the browser marks as cross-site, except following a link.
fn check_site(method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
    let fetch_header = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    let is_link = matches!(*method, Method::GET | Method::HEAD)
        && fetch_header(FETCH_MODE) == Some(b"navigate")
        && fetch_header(FETCH_DEST).is_none_or(|kind| kind == b"document");
    match fetch_header(FETCH_SITE) {
        None | Some(b"same-origin" | b"none") => Ok(()),
        Some(_) if is_link => Ok(()),
        Some(_) => Err(forbidden("cross-site request rejected")),
    }
}

/// The token of a request: the bearer token, or the password of Basic authentication.
fn given(headers: &HeaderMap) -> Option<Vec<u8>> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    let given = if scheme.eq_ignore_ascii_case("bearer") {
        rest.trim().as_bytes().to_vec()
    } else if scheme.eq_ignore_ascii_case("basic") {
        let decoded = base64::prelude::BASE64_STANDARD.decode(rest.trim()).ok()?;
        let colon = decoded.iter().position(|byte| *byte == b':')?;
        decoded.get(colon + 1..)?.to_vec()
    } else {
        return None;
    };
    // An empty token never matches, even if a token file is empty.
    (!given.trim_ascii().is_empty()).then_some(given)
}

fn forbidden(message: &str) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, message)
}

#[cfg(test)]
mod tests {
    use super::super::routes::RouteMatch;
    use super::*;
    use crate::config::server::TokenConfig;
    use crate::secret::Secret;

    fn config(tokens: &[(Role, &str)], loopback: Option<Role>) -> Config {
        let tokens = tokens.iter().enumerate().map(|(index, (role, token))| TokenConfig {
            name: format!("t{index}"),
            role: *role,
            token: Some(Secret::new(*token)),
            token_file: None,
        });
        let mut config =
            Config { allowed_hosts: vec!["lookout".into(), "Port.example.:81".into()], ..Config::default() };
        (config.auth.tokens, config.auth.loopback) = (tokens.collect(), loopback);
        config
    }

    fn access(address: &str, tokens: &[(Role, &str)], loopback: Option<Role>) -> AccessRules {
        AccessRules::new(&config(tokens, loopback), address.parse().expect("address")).expect("access")
    }

    fn status(access: &AccessRules, method: &str, path: &str, headers: &[(&'static str, &str)]) -> u16 {
        let local = if access.address.ip().is_unspecified() { [10, 0, 0, 1].into() } else { access.address.ip() };
        status_at(access, local, method, path, headers)
    }

    fn status_at(
        access: &AccessRules,
        local: IpAddr,
        method: &str,
        uri: &str,
        headers: &[(&'static str, &str)],
    ) -> u16 {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("a request");
        let needs = RouteMatch::of(request.method(), request.uri().path()).requirement;
        access.check(&request, needs, local).map_or_else(|error| error.status.as_u16(), |_| 200)
    }

    #[test]
    fn each_role_permits_its_routes() {
        const HOME: &str = "127.0.0.1:9797";
        const WORLD: &str = "10.0.0.1:9797";
        let tokens: &[(Role, &str)] = &[(Role::Read, "r"), (Role::Ingest, "i"), (Role::Admin, "a")];
        for (address, tokens, loopback, method, path, token, expected) in [
            (HOME, &[][..], None, "POST", "/-/reload", None, 200),
            (HOME, &[], Some(Role::Ingest), "POST", "/-/reload", None, 403),
            (HOME, &[], Some(Role::Ingest), "POST", "/api/state", None, 200),
            (WORLD, &[], None, "GET", "/metrics", None, 200),
            (WORLD, &[], None, "GET", "/-/healthy", None, 200),
            (WORLD, &[], None, "GET", "/api/status", None, 403),
            (WORLD, &[], None, "POST", "/api/state", None, 403),
            (HOME, tokens, None, "GET", "/metrics", None, 401),
            (HOME, tokens, None, "GET", "/-/ready", None, 200),
            (HOME, tokens, None, "GET", "/metrics", Some("Bearer r"), 200),
            (HOME, tokens, None, "GET", "/metrics", Some("Bearer x"), 401),
            (HOME, tokens, None, "GET", "/metrics", Some("Basic dXNlcjpy"), 200),
            (HOME, tokens, None, "POST", "/api/state", Some("Bearer r"), 403),
            (HOME, tokens, None, "POST", "/api/state", Some("Bearer i"), 200),
            (HOME, tokens, None, "POST", "/api/monitoring/stop", Some("Bearer i"), 403),
            (HOME, tokens, None, "POST", "/api/monitoring/stop", Some("bearer a"), 200),
            (HOME, tokens, Some(Role::Ingest), "POST", "/api/state", None, 200),
            (HOME, tokens, Some(Role::Ingest), "POST", "/-/reload", None, 403),
            (WORLD, tokens, Some(Role::Ingest), "POST", "/api/state", None, 401),
            (HOME, tokens, None, "POST", "/v1/metrics", Some("Bearer i"), 200),
            (HOME, tokens, None, "POST", "/v1/metrics", Some("Bearer r"), 403),
            (HOME, tokens, None, "POST", "/v1/profiles", Some("Bearer i"), 403),
            (
                HOME,
                tokens,
                None,
                "POST",
                "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
                Some("Bearer i"),
                200,
            ),
            (WORLD, &[], None, "POST", "/v1/traces", None, 403),
        ] {
            let access = access(address, tokens, loopback);
            let headers: Vec<_> = token.map(|token| ("authorization", token)).into_iter().collect();
            assert_eq!(
                status(&access, method, path, &headers),
                expected,
                "{address} {method} {path} {token:?} {loopback:?}"
            );
        }
    }

    #[test]
    fn unknown_hosts_are_rejected() {
        let (home, world) = (access("127.0.0.1:9797", &[], None), access("0.0.0.0:9797", &[(Role::Admin, "a")], None));
        for (host, at_home, in_the_world) in [
            ("localhost:9797", 200, 200),
            ("LOCALHOST.:9797", 200, 200),
            ("127.0.0.1", 200, 200),
            ("[::1]:9797", 200, 200),
            ("[::ffff:127.0.0.1]", 200, 200),
            ("lookout:9797", 200, 200),
            ("lookout.", 200, 200),
            ("port.example:81", 200, 200),
            ("port.example:82", 403, 403),
            ("0.0.0.0:9797", 403, 200),
            ("10.0.0.1:9797", 403, 200),
            ("[::ffff:10.0.0.1]", 403, 200),
            ("10.0.0.2", 403, 403),
            ("203.0.113.5:9797", 403, 403),
            ("[2001:db8::1]:9797", 403, 403),
            ("evil.example", 403, 403),
            ("127.0.0.1.evil.example:9797", 403, 403),
            ("localhost@evil.example", 403, 403),
            ("evil.example#localhost", 403, 403),
            ("localhost:x", 403, 403),
            ("", 403, 403),
        ] {
            for (access, expected) in [(&home, at_home), (&world, in_the_world)] {
                let headers = [("host", host), ("authorization", "Bearer a")];
                assert_eq!(status(access, "GET", "/api/status", &headers), expected, "{host} at {}", access.address);
                assert_eq!(status(access, "POST", "/v1/logs", &headers), expected, "{host}: OTLP");
            }
        }
        let local = IpAddr::from([127, 0, 0, 1]);
        for (uri, headers, expected) in [
            ("http://localhost:9797/api/status", &[][..], 200),
            ("http://evil.example/api/status", &[], 403),
            ("http://evil.example/api/status", &[("host", "localhost")], 403),
            ("/api/status", &[("host", "localhost"), ("host", "evil.example")], 403),
        ] {
            assert_eq!(status_at(&home, local, "GET", uri, headers), expected, "{uri} {headers:?}");
        }
    }

    #[test]
    fn cross_origin_requests_are_rejected() {
        let mut config = config(&[], None);
        config.external_url.0 = "https://Lookout.example.com/watch".to_owned();
        let address: SocketAddr = "127.0.0.1:9797".parse().expect("an address");
        let plain = AccessRules::new(&config, address).expect("access");
        config.tls.cert_file = Some("c.pem".into());
        let tls = AccessRules::new(&config, address).expect("access");
        for (host, origin, by_http, by_https) in [
            ("localhost:9797", "http://localhost:9797", 200, 403),
            ("localhost:9797", "https://localhost:9797", 403, 200),
            ("localhost:9797", "http://127.0.0.1:9797", 200, 403),
            ("127.0.0.1:9797", "http://localhost:9797", 200, 403),
            ("127.0.0.1:9797", "http://[::1]:9797", 403, 403),
            ("127.0.0.1:9797", "http://127.0.0.2:9797", 403, 403),
            ("localhost:9797", "http://localhost:3000", 403, 403),
            ("localhost:9797", "http://localhost", 403, 403),
            ("localhost:8080", "http://localhost:8080", 200, 403),
            ("lookout", "http://lookout", 200, 403),
            ("lookout", "https://lookout", 403, 200),
            ("lookout.example.com", "https://lookout.example.com", 200, 200),
            ("localhost:9797", "https://lookout.example.com:443", 200, 200),
            ("localhost:9797", "https://lookout.example.com:8443", 403, 403),
            ("localhost:9797", "http://lookout.example.com", 403, 403),
            ("localhost:9797", "https://evil.example", 403, 403),
            ("localhost:9797", "http://localhost:9797.evil.example", 403, 403),
            ("localhost:9797", "http://localhost:9797@evil.example", 403, 403),
            ("localhost:9797", "null", 403, 403),
            ("localhost:9797", "", 403, 403),
            ("localhost:9797", "file://", 403, 403),
            ("localhost:9797", "chrome-extension://localhost:9797", 403, 403),
        ] {
            for (access, expected) in [(&plain, by_http), (&tls, by_https)] {
                for (method, path) in [("POST", "/-/reload"), ("POST", "/hooks/claude-code"), ("POST", "/v1/logs")] {
                    let headers = [("host", host), ("origin", origin)];
                    assert_eq!(status(access, method, path, &headers), expected, "{host} {origin} {path}");
                }
            }
        }
        let twice =
            [("host", "localhost:9797"), ("origin", "http://localhost:9797"), ("origin", "http://evil.example")];
        assert_eq!(status(&plain, "POST", "/-/reload", &twice), 403);
    }

    #[test]
    fn cross_site_requests_are_rejected() {
        let access = access("127.0.0.1:9797", &[], None);
        for (method, site, mode, kind, expected) in [
            ("POST", "same-origin", "cors", "empty", 200),
            ("GET", "none", "navigate", "document", 200),
            ("GET", "cross-site", "navigate", "document", 200),
            ("GET", "cross-site", "navigate", "iframe", 403),
            ("POST", "cross-site", "navigate", "document", 403),
            ("POST", "same-site", "cors", "empty", 403),
            ("GET", "cross-site", "no-cors", "image", 403),
        ] {
            let headers = [("sec-fetch-site", site), ("sec-fetch-mode", mode), ("sec-fetch-dest", kind)];
            assert_eq!(status(&access, method, "/api/silences", &headers), expected, "{method} {headers:?}");
        }
    }

    #[test]
    fn an_empty_token_never_grants_access() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("token");
        let address: SocketAddr = "127.0.0.1:9797".parse().expect("an address");
        let with_file = |text: &str, tokens: &[(Role, &str)]| {
            std::fs::write(&file, text).expect("a file");
            let mut config = config(tokens, None);
            let token =
                TokenConfig { name: "f".into(), role: Role::Admin, token: None, token_file: Some(file.clone()) };
            config.auth.tokens.push(token);
            AccessRules::new(&config, address).map_err(|error| error.to_string())
        };
        for (text, tokens, problem) in [
            ("", &[][..], "auth.tokens[0].token_file: read secret file"),
            (" \n\u{200b}\n", &[], "the file is empty; write the secret to it"),
            ("a b\nc\n", &[], "control characters"),
            ("same\n", &[(Role::Read, "same")], "auth.tokens[1].token_file: duplicate token"),
        ] {
            let error = with_file(text, tokens).expect_err(text);
            assert!(error.contains(problem) && !error.contains("same\n"), "{error}");
        }
        let access = with_file("good\n", &[]).expect("access");
        // `Og==` is `:` without a password.
        for (credentials, expected) in
            [("Basic Og==", 401), ("Bearer ", 401), ("Bearer good", 200), ("Basic OiA=", 401)]
        {
            assert_eq!(status(&access, "POST", "/-/reload", &[("authorization", credentials)]), expected);
            std::fs::write(&file, if expected == 200 { "" } else { "good" }).expect("a file");
        }
    }

    /// Access rules with the token `one` in this file.
    fn access_by_file(file: &std::path::Path) -> AccessRules {
        std::fs::write(file, "one").expect("a file");
        let mut config = config(&[], None);
        let token = TokenConfig { name: "t".into(), role: Role::Admin, token: None, token_file: Some(file.to_owned()) };
        config.auth.tokens = vec![token];
        AccessRules::new(&config, "127.0.0.1:9797".parse().expect("address")).expect("access")
    }

    fn bearer(token: &str) -> HeaderMap {
        let value = format!("Bearer {token}").parse().expect("a value");
        HeaderMap::from_iter([(header::AUTHORIZATION, value)])
    }

    #[tokio::test]
    async fn wrong_tokens_do_not_cause_concurrent_reads() {
        let dir = tempfile::tempdir().expect("a folder");
        let access = Arc::new(access_by_file(&dir.path().join("token")));
        let began = Instant::now();
        let mut looks = std::collections::BTreeSet::new();
        for _ in 0..3 {
            let mut wrong = JoinSet::new();
            for _ in 0..400 {
                let access = Arc::clone(&access);
                wrong.spawn(async move {
                    access.renew(&bearer("wrong")).await;
                    *access.last_read.lock().await
                });
            }
            looks.extend(wrong.join_all().await);
        }
        let (looks, elapsed) = (looks.len(), began.elapsed());
        assert!(elapsed >= 2 * PAUSE && elapsed >= PAUSE * (looks as u32 - 1), "{looks} looks within {elapsed:?}");
    }

    #[tokio::test]
    async fn a_hanging_token_file_keeps_its_last_value() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("token");
        let access = access_by_file(&file);
        let (release, hangs) = std::sync::mpsc::channel::<()>();
        let (began, mut started) = tokio::sync::mpsc::channel(1);
        let hanging = {
            let file = file.clone();
            let hang = move || (began.blocking_send(()).is_ok(), hangs.recv().is_ok());
            tokio::spawn(async move { crate::files::run_blocking(&file, 30 * FRESH, hang).await })
        };
        started.recv().await.expect("it hangs");
        access.renew(&bearer("wrong")).await;
        for (token, expected) in [("one", 200), ("wrong", 401)] {
            let value = format!("Bearer {token}");
            assert_eq!(status(&access, "GET", "/api/status", &[("authorization", &value)]), expected, "{token}");
        }
        drop(release);
        hanging.await.expect("it ends").expect("in time");
    }

    #[tokio::test]
    async fn a_changed_token_file_takes_effect_at_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("token");
        let access = access_by_file(&file);
        for (held, given, expected) in [(Some("one"), "one", 200), (Some("two"), "two", 200), (None, "three", 401)] {
            match held {
                Some(held) => std::fs::write(&file, held).expect("a file"),
                None => std::fs::remove_file(&file).expect("no file"),
            }
            let value = format!("Bearer {given}");
            access.renew(&bearer(given)).await;
            let headers = [("authorization", &*value)];
            assert_eq!(status(&access, "GET", "/api/status", &headers), expected, "{held:?}");
        }
    }
}
