//! Who may do what: addresses, Host and Origin, tokens and roles.
//!
//! A page of somebody else's may ask whatever its visitor's browser reaches. It can't choose the Host that it names, nor
//! its Origin: so both must be our own, on whatever listener and route.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use subtle::ConstantTimeEq as _;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::error::Refusal;
use crate::config::server::{Role, host_and_port, is_sendable};
use crate::config::{Config, ConfigError};
use crate::model::Problem;
use crate::secret::{Secret, SecretSource};

/// For how long a token that was read from its file lets its bearer in without another look.
const FRESH: Duration = Duration::from_secs(1);
/// How long the files of tokens are left alone after each look, whatever is shown to us meanwhile.
const PAUSE: Duration = Duration::from_millis(50);

/// What a browser says of where a request comes from, and of what it is for.
const FETCH_SITE: &str = "sec-fetch-site";
const FETCH_MODE: &str = "sec-fetch-mode";
const FETCH_DEST: &str = "sec-fetch-dest";

/// What the sender of a request needs to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// Nothing, whatever Host and Origin are.
    Nothing,
    /// A role.
    Role(Role),
    /// A role; nothing on an address that is not loopback while no token is configured.
    Scrape(Role),
}

impl Needs {
    /// The role, if one is needed.
    pub(super) const fn role(self) -> Option<Role> {
        match self {
            Self::Nothing => None,
            Self::Role(role) | Self::Scrape(role) => Some(role),
        }
    }
}

impl From<Role> for Needs {
    fn from(role: Role) -> Self {
        Self::Role(role)
    }
}

/// The rules of access in force.
#[derive(Debug)]
pub struct Access {
    tokens: Vec<Arc<Token>>,
    /// When the last look at the tokens' files began, which is kept while one looks: that look is everybody's who waits.
    looked: tokio::sync::Mutex<Option<Instant>>,
    loopback: Option<Role>,
    allowed_hosts: Vec<Host>,
    /// Where others find us: scheme, host and port.
    external: Option<(String, String, u16)>,
    is_tls: bool,
    address: SocketAddr,
}

/// A host in lower case, and its port when it is said.
type Host = (String, Option<u16>);

#[derive(Debug)]
struct Token {
    name: Arc<str>,
    role: Role,
    source: SecretSource,
    /// The token as it was last read, and when.
    known: Mutex<Option<(Instant, Secret)>>,
}

impl Token {
    fn known(&self) -> MutexGuard<'_, Option<(Instant, Secret)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is `given`, as it was last read.
    fn is(&self, given: &[u8]) -> bool {
        self.known().as_ref().is_some_and(|(_, secret)| secret.expose().as_bytes().ct_eq(given).into())
    }

    /// Whether it was read within the last moments, or cannot change.
    fn is_fresh(&self) -> bool {
        let is_file = matches!(self.source, SecretSource::File(_));
        !is_file || self.known().as_ref().is_some_and(|(at, _)| at.elapsed() < FRESH)
    }

    /// Reads it again. A file that hangs leaves what was known of it: a disk or mount must not lock everybody out.
    async fn renew(&self) {
        let read = self.source.read().await;
        let (now, mut known) = (Instant::now(), self.known());
        match (read, known.take()) {
            (Ok(secret), _) => *known = Some((now, secret)),
            (Err(error), Some((_, secret))) if error.is_late() => {
                *known = Some((now, secret));
                drop(known);
                tracing::error!(token = &*self.name, error = error.in_full(), "token not readable; it stays as it was");
            }
            (Err(error), Some(_)) => {
                drop(known);
                tracing::error!(
                    token = &*self.name,
                    error = error.in_full(),
                    "token not readable; its bearer is refused"
                );
            }
            // It was logged when it began.
            (Err(_), None) => {}
        }
    }
}

/// Who calls: the name of the token that was shown, if one was.
#[derive(Clone, Debug, Default)]
pub(super) struct Caller {
    token: Option<Arc<str>>,
}

impl Caller {
    /// How the caller is named to others; `said` is what they call themselves.
    pub(super) fn name(&self, said: Option<&str>) -> String {
        match (said.filter(|said| !said.is_empty()), &self.token) {
            (Some(said), Some(token)) => format!("{said} (token {token})"),
            (Some(said), None) => said.to_owned(),
            (None, Some(token)) => format!("the bearer of token {token}"),
            (None, None) => "somebody on this machine".to_owned(),
        }
    }
}

impl Access {
    /// Access to a listener at `address`. The error names each token that would let the wrong one in.
    pub fn new(config: &Config, address: SocketAddr) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let mut known: Vec<Secret> = Vec::new();
        let mut tokens = Vec::new();
        for (place, token) in config.auth.tokens.iter().enumerate() {
            let mut report = |key: &str, message: String| {
                problems.push(Problem::new(format!("auth.tokens[{place}].{key}"), message));
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
                    report(key, "is that of an earlier token; give each its own".to_owned());
                }
                Ok(secret) if !is_sendable(secret.expose()) => {
                    report(key, "has white space around it or control characters, which no header carries".to_owned());
                }
                Ok(secret) => known.push(secret),
            }
            tokens.push(Arc::new(Token {
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
            looked: tokio::sync::Mutex::default(),
            loopback: config.auth.loopback,
            allowed_hosts: config.allowed_hosts.iter().filter_map(|host| host_and_port(host).ok()).collect(),
            external,
            is_tls: config.tls.cert_file.is_some(),
            address,
        })
    }

    /// Reads the tokens that are in files again, unless the request shows one that was read within the last moments. It is
    /// called before [`Access::check`], which waits for nothing.
    pub(super) async fn renew(&self, headers: &HeaderMap) {
        let Some(given) = given(headers) else { return };
        // Every token is compared, so that the time taken tells nothing of which one came close.
        let is_known = self.tokens.iter().fold(false, |known, token| known | (token.is(&given) & token.is_fresh()));
        if !is_known {
            self.look_again().await;
        }
    }

    /// Reads the tokens that are in files. However many ask for it, one reads for all of them, and not at once again:
    /// anybody may show a wrong token.
    async fn look_again(&self) {
        let files = || self.tokens.iter().filter(|token| matches!(token.source, SecretSource::File(_)));
        if files().next().is_none() {
            return;
        }
        let asked = Instant::now();
        let mut looked = self.looked.lock().await;
        if let Some(last) = *looked {
            if last >= asked {
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
        *looked = Some(began);
    }

    /// Whether the request may be served, which came to our address `local` and whose sender `needs` something; and who
    /// that is.
    pub(super) fn check<B>(&self, request: &Request<B>, needs: Needs, local: IpAddr) -> Result<Caller, Refusal> {
        let headers = request.headers();
        let nobody = Caller::default();
        let Some(needed) = needs.role() else { return Ok(nobody) };
        let hosts = hosts(request)?;
        self.check_hosts(&hosts, local)?;
        self.check_origin(headers, &hosts, local)?;
        check_site(request.method(), headers)?;
        let is_loopback = self.address.ip().is_loopback();
        if self.tokens.is_empty() {
            return match (is_loopback, self.loopback) {
                (true, Some(role)) if needed > role => {
                    Err(forbidden("auth.loopback does not allow this without a token"))
                }
                (true, _) => Ok(nobody),
                (false, _) if matches!(needs, Needs::Scrape(_)) => Ok(nobody),
                (false, _) => Err(forbidden(
                    "this listener is not on a loopback address and no token is configured; set auth.tokens to allow access",
                )),
            };
        }
        let token = self.token_of(headers);
        let caller = Caller { token: token.map(|token| Arc::clone(&token.name)) };
        // Where it is said so, callers on this machine need no token for what they are allowed.
        let role = token.map(|token| token.role).or(self.loopback.filter(|_| is_loopback));
        match role {
            Some(role) if role >= needed => Ok(caller),
            Some(_) => Err(forbidden("the token's role does not allow this")),
            None => Err(Refusal {
                header: Some((header::WWW_AUTHENTICATE, "Bearer realm=\"lookout\", Basic realm=\"lookout\"")),
                ..Refusal::new(StatusCode::UNAUTHORIZED, "a token is needed; send it as `authorization: Bearer …`")
            }),
        }
    }

    /// The token of the best role that the request carries, as bearer or as the password of Basic.
    fn token_of(&self, headers: &HeaderMap) -> Option<&Token> {
        let given = given(headers)?;
        // Every token is compared, so that the time taken tells nothing of which one came close.
        self.tokens.iter().fold(None, |best: Option<&Token>, one| match one.is(&given) {
            true if best.is_none_or(|best| best.role < one.role) => Some(one),
            _ => best,
        })
    }

    /// Refuses names that a foreign page could have pointed at this address.
    fn check_hosts(&self, hosts: &[Host], local: IpAddr) -> Result<(), Refusal> {
        match hosts.iter().find(|host| !self.is_ours(host, local)) {
            None => Ok(()),
            Some((host, _)) => {
                let shown = crate::text::clean(host, 100);
                Err(forbidden(&format!("the Host `{shown}` is not known here; add it to allowed_hosts")))
            }
        }
    }

    /// Refuses pages of any other origin than ours, also those of other programs on this machine. Programs send none.
    fn check_origin(&self, headers: &HeaderMap, hosts: &[Host], local: IpAddr) -> Result<(), Refusal> {
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
            // The page that we serve: of the name and port by which it was asked for, which may be published ones.
            let is_asked =
                hosts.iter().any(|(asked, asked_port)| *asked == host && asked_port.unwrap_or(default) == port);
            let is_named = match host.parse::<IpAddr>() {
                Ok(ip) => ip == local,
                Err(_) => host == "localhost" && local.is_loopback(),
            };
            let is_own_scheme = scheme == if self.is_tls { "https" } else { "http" };
            (is_own_scheme && (is_asked || is_named && port == self.address.port())).then_some(())
        };
        if headers.get_all(header::ORIGIN).iter().all(|origin| is_ours(origin).is_some()) {
            return Ok(());
        }
        Err(forbidden(
            "requests from pages of other origins are refused; where a proxy serves lookout, set external_url to its address",
        ))
    }

    fn is_ours(&self, host: &Host, local: IpAddr) -> bool {
        let (name, port) = host;
        let is_address =
            |ip: IpAddr| ip.is_loopback() || ip == local.to_canonical() || ip == self.address.ip().to_canonical();
        name == "localhost"
            || name.parse::<IpAddr>().is_ok_and(is_address)
            || self.external.as_ref().is_some_and(|(_, external, _)| external == name)
            || self.allowed_hosts.iter().any(|(allowed, at)| allowed == name && (at.is_none() || at == port))
    }
}

/// Every host that the request says it is for: in its headers, and in its target, as HTTP/2 has it.
fn hosts<B>(request: &Request<B>) -> Result<Vec<Host>, Refusal> {
    let in_headers = request.headers().get_all(header::HOST).iter().map(HeaderValue::to_str);
    let in_target = request.uri().authority().map(|authority| Ok(authority.as_str()));
    let read = |host: Result<&str, header::ToStrError>| {
        let host = host.map_err(|_| forbidden("the Host header is not text"))?;
        host_and_port(host).map_err(|message| forbidden(&format!("the Host header: {message}")))
    };
    in_headers.chain(in_target).map(read).collect()
}

/// Refuses what a browser itself says comes from elsewhere, but for a link that somebody follows.
fn check_site(method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
    let said = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    let is_link = matches!(*method, Method::GET | Method::HEAD)
        && said(FETCH_MODE) == Some(b"navigate")
        && said(FETCH_DEST).is_none_or(|kind| kind == b"document");
    match said(FETCH_SITE) {
        None | Some(b"same-origin" | b"none") => Ok(()),
        Some(_) if is_link => Ok(()),
        Some(_) => Err(forbidden("requests from pages of other sites are refused")),
    }
}

/// The token that a request carries, as bearer or as the password of Basic.
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
    // Who shows nothing has nothing, whatever a token's file has become.
    (!given.trim_ascii().is_empty()).then_some(given)
}

fn forbidden(message: &str) -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, message)
}

#[cfg(test)]
mod tests {
    use super::super::routes::Asked;
    use super::*;
    use crate::config::server::TokenConfig;
    use crate::secret::Secret;

    fn config(tokens: &[(Role, &str)], loopback: Option<Role>) -> Config {
        let tokens = tokens.iter().enumerate().map(|(place, (role, token))| TokenConfig {
            name: format!("t{place}"),
            role: *role,
            token: Some(Secret::new(*token)),
            token_file: None,
        });
        let mut config =
            Config { allowed_hosts: vec!["lookout".into(), "Port.example.:81".into()], ..Config::default() };
        (config.auth.tokens, config.auth.loopback) = (tokens.collect(), loopback);
        config
    }

    fn access(address: &str, tokens: &[(Role, &str)], loopback: Option<Role>) -> Access {
        Access::new(&config(tokens, loopback), address.parse().expect("address")).expect("access")
    }

    fn status(access: &Access, method: &str, path: &str, headers: &[(&'static str, &str)]) -> u16 {
        let local = if access.address.ip().is_unspecified() { [10, 0, 0, 1].into() } else { access.address.ip() };
        status_at(access, local, method, path, headers)
    }

    fn status_at(access: &Access, local: IpAddr, method: &str, uri: &str, headers: &[(&'static str, &str)]) -> u16 {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("a request");
        let needs = Asked::of(request.method(), request.uri().path()).needs;
        access.check(&request, needs, local).map_or_else(|refusal| refusal.status.as_u16(), |_| 200)
    }

    #[test]
    fn who_may_do_what() {
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
    fn foreign_names_are_refused() {
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
    fn only_our_own_pages_may_ask() {
        let mut config = config(&[], None);
        config.external_url.0 = "https://Lookout.example.com/watch".to_owned();
        let address: SocketAddr = "127.0.0.1:9797".parse().expect("an address");
        let plain = Access::new(&config, address).expect("access");
        config.tls.cert_file = Some("c.pem".into());
        let tls = Access::new(&config, address).expect("access");
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
    fn what_a_browser_says_is_from_elsewhere_is_refused() {
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
    fn an_empty_token_lets_nobody_in() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("token");
        let address: SocketAddr = "127.0.0.1:9797".parse().expect("an address");
        let with_file = |text: &str, tokens: &[(Role, &str)]| {
            std::fs::write(&file, text).expect("a file");
            let mut config = config(tokens, None);
            let token =
                TokenConfig { name: "f".into(), role: Role::Admin, token: None, token_file: Some(file.clone()) };
            config.auth.tokens.push(token);
            Access::new(&config, address).map_err(|error| error.to_string())
        };
        for (text, tokens, problem) in [
            ("", &[][..], "auth.tokens[0].token_file: read secret file"),
            (" \n\u{200b}\n", &[], "the file is empty; write the secret into it"),
            ("a b\nc\n", &[], "control characters"),
            ("same\n", &[(Role::Read, "same")], "auth.tokens[1].token_file: is that of an earlier token"),
        ] {
            let error = with_file(text, tokens).expect_err(text);
            assert!(error.contains(problem) && !error.contains("same\n"), "{error}");
        }
        let access = with_file("good\n", &[]).expect("access");
        // `:` and nothing after it.
        for (credentials, expected) in
            [("Basic Og==", 401), ("Bearer ", 401), ("Bearer good", 200), ("Basic OiA=", 401)]
        {
            assert_eq!(status(&access, "POST", "/-/reload", &[("authorization", credentials)]), expected);
            std::fs::write(&file, if expected == 200 { "" } else { "good" }).expect("a file");
        }
    }

    /// Access with the token `one` in this file.
    fn access_by_file(file: &std::path::Path) -> Access {
        std::fs::write(file, "one").expect("a file");
        let mut config = config(&[], None);
        let token = TokenConfig { name: "t".into(), role: Role::Admin, token: None, token_file: Some(file.to_owned()) };
        config.auth.tokens = vec![token];
        Access::new(&config, "127.0.0.1:9797".parse().expect("address")).expect("access")
    }

    fn bearer(token: &str) -> HeaderMap {
        let value = format!("Bearer {token}").parse().expect("a value");
        HeaderMap::from_iter([(header::AUTHORIZATION, value)])
    }

    #[tokio::test]
    async fn wrong_tokens_make_no_more_reads_than_one_at_a_time() {
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
                    *access.looked.lock().await
                });
            }
            looks.extend(wrong.join_all().await);
        }
        let (looks, elapsed) = (looks.len(), began.elapsed());
        assert!(elapsed >= 2 * PAUSE && elapsed >= PAUSE * (looks as u32 - 1), "{looks} looks within {elapsed:?}");
    }

    #[tokio::test]
    async fn a_file_that_hangs_leaves_its_token_as_it_was() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("token");
        let access = access_by_file(&file);
        let (release, hangs) = std::sync::mpsc::channel::<()>();
        let (began, mut begun) = tokio::sync::mpsc::channel(1);
        let hanging = {
            let file = file.clone();
            let hang = move || (began.blocking_send(()).is_ok(), hangs.recv().is_ok());
            tokio::spawn(async move { crate::files::beside(&file, 30 * FRESH, hang).await })
        };
        begun.recv().await.expect("it hangs");
        access.renew(&bearer("wrong")).await;
        for (token, expected) in [("one", 200), ("wrong", 401)] {
            let value = format!("Bearer {token}");
            assert_eq!(status(&access, "GET", "/api/status", &[("authorization", &value)]), expected, "{token}");
        }
        drop(release);
        hanging.await.expect("it ends").expect("in time");
    }

    #[tokio::test]
    async fn a_token_that_changed_in_its_file_is_known_at_once() {
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
