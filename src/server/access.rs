//! Access control: addresses, `Host` and `Origin`, tokens, sessions, users of a proxy, and roles.
//!
//! A foreign web page can send requests to any address that its visitor's browser reaches (CSRF, DNS rebinding), but it
//! cannot choose `Host` and `Origin`. Both must therefore be our own, on every listener and route. A browser sends the cookie
//! of a session by itself; requests that change something need a header of our own page in addition.

mod limiter;
mod proxy;
mod sessions;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use subtle::ConstantTimeEq as _;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::limiter::LoginLimiter;
use self::proxy::ProxyRules;
use self::sessions::{SessionCookie, SessionSigner};
use super::error::ApiError;
use crate::clock::Clock;
use crate::config::server::{Role, host_and_port, is_sendable};
use crate::config::{Config, ConfigError};
use crate::model::Problem;
use crate::secret::{Secret, SecretSource, kept};

/// How long a token that was read from a file is valid without reading it again.
const FRESH: Duration = Duration::from_secs(1);
/// Minimum time between two reads of the token files.
const PAUSE: Duration = Duration::from_millis(50);

/// Headers by which a browser describes the origin and purpose of a request.
const FETCH_SITE: &str = "sec-fetch-site";
const FETCH_MODE: &str = "sec-fetch-mode";
const FETCH_DEST: &str = "sec-fetch-dest";
/// The header that our page's script sends. Another page cannot send it without asking first, which is not answered.
const PAGE_HEADER: &str = "x-lookout";

/// What a request needs to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Requirement {
    /// Nothing: `Host` and `Origin` are not checked either.
    Nothing,
    /// Nothing but our own `Host` and `Origin`: to sign in and out.
    SignIn,
    /// A role.
    Role(Role),
    /// A role, or nothing on a non-loopback address while no token is configured.
    Scrape(Role),
}

impl Requirement {
    /// The required role, if any.
    pub(super) const fn role(self) -> Option<Role> {
        match self {
            Self::Nothing | Self::SignIn => None,
            Self::Role(role) | Self::Scrape(role) => Some(role),
        }
    }
}

impl From<Role> for Requirement {
    fn from(role: Role) -> Self {
        Self::Role(role)
    }
}

/// Where a request comes from, and our address that it was sent to.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestEnds {
    pub(super) peer: IpAddr,
    pub(super) local: IpAddr,
}

/// What access rules keep over reloads, and share among listeners.
#[derive(Debug)]
pub struct AccessState {
    clock: Clock,
    /// The file of the key that signs sessions.
    key_file: Option<PathBuf>,
    signer: OnceLock<SessionSigner>,
    logins: LoginLimiter,
    /// The same for tokens of links: a wrong one does not keep others from signing in.
    links: LoginLimiter,
    /// What was logged already: that lookout's own token gives access, and that a stranger named a user.
    own_token_logged: OnceLock<()>,
    stranger_logged: OnceLock<()>,
}

impl AccessState {
    /// Keeps what must survive a restart in the files next to the store of `config`.
    pub fn new(config: &Config, clock: Clock) -> Arc<Self> {
        Arc::new(Self { key_file: config.store.session_key_path(), ..Self::in_memory(clock) })
    }

    /// Keeps nothing, and makes no token.
    fn in_memory(clock: Clock) -> Self {
        Self {
            clock,
            key_file: None,
            signer: OnceLock::new(),
            logins: LoginLimiter::default(),
            links: LoginLimiter::default(),
            own_token_logged: OnceLock::new(),
            stranger_logged: OnceLock::new(),
        }
    }

    fn signer(&self) -> &SessionSigner {
        self.signer.get_or_init(|| SessionSigner::open(self.key_file.as_deref()))
    }

    /// The token that lookout makes itself where nothing else gives access. It is kept in a file, and never logged.
    fn own_token(&self, config: &Config) -> Option<Arc<ConfiguredToken>> {
        let path = config.own_token_path().filter(|_| self.key_file.is_some())?;
        let secret = match kept::keep(&path) {
            Ok((secret, is_new)) => {
                self.own_token_logged.get_or_init(|| {
                    tracing::info!(
                        path = %path.display(),
                        is_new,
                        "no token is configured: other machines need lookout's own, which `lookout token` prints"
                    );
                });
                secret
            }
            Err(error) => {
                tracing::error!(
                    path = %path.display(),
                    error = %error,
                    "lookout's own token cannot be kept, so that other machines have no access; configure auth.tokens"
                );
                return None;
            }
        };
        Some(Arc::new(ConfiguredToken {
            name: Arc::from(OWN_TOKEN),
            source: SecretSource::File(path),
            known: Mutex::new(Some((Instant::now(), secret))),
        }))
    }
}

/// The name of the token that lookout makes itself.
const OWN_TOKEN: &str = "admin";

/// The access rules of one listener.
#[derive(Debug)]
pub struct AccessRules {
    state: Arc<AccessState>,
    tokens: Vec<(Role, Arc<ConfiguredToken>)>,
    /// Whether the only token is the one that lookout made itself.
    has_own_token: bool,
    shares: Vec<Arc<ConfiguredToken>>,
    proxy: Option<ProxyRules>,
    /// When the last read of the token files began. Locked while reading: waiting requests share that read.
    last_read: tokio::sync::Mutex<Option<Instant>>,
    loopback: Option<Role>,
    allowed_hosts: Vec<HostAndPort>,
    /// `external_url` as scheme, host and port.
    external: Option<(String, String, u16)>,
    /// The path of `external_url`, which some proxies keep, such as `/watch`.
    prefix: Option<String>,
    is_tls: bool,
    address: SocketAddr,
}

/// A host in lower case, and its port if given.
type HostAndPort = (String, Option<u16>);

#[derive(Debug)]
struct ConfiguredToken {
    name: Arc<str>,
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

/// How a caller is known.
#[derive(Clone, Debug, Default)]
enum CallerIdentity {
    /// It is a local one, or needs no role.
    #[default]
    Local,
    /// By the token of this name.
    Token(Arc<str>),
    /// By a cookie that was issued for the token of this name.
    Session(Arc<str>),
    /// By a proxy that names this user.
    User(Arc<str>),
}

/// The caller of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct Caller {
    identity: CallerIdentity,
    /// `None` without any role.
    role: Option<Role>,
}

impl Caller {
    /// Whether it may do everything.
    pub(super) fn is_admin(&self) -> bool {
        self.role == Some(Role::Admin)
    }

    /// Whether it may read.
    pub(super) fn may_read(&self) -> bool {
        self.role.is_some()
    }

    /// Whether a proxy names it. Only the proxy knows until when.
    pub(super) fn is_of_proxy(&self) -> bool {
        matches!(self.identity, CallerIdentity::User(_))
    }

    /// Whether it signed in.
    pub(super) fn has_session(&self) -> bool {
        matches!(self.identity, CallerIdentity::Session(_))
    }

    /// The name that the page shows: of the user, or of the token that was signed in with.
    pub(super) fn shown_name(&self) -> Option<&str> {
        match &self.identity {
            CallerIdentity::Session(name) | CallerIdentity::User(name) => Some(name),
            CallerIdentity::Local | CallerIdentity::Token(_) => None,
        }
    }

    /// The caller's name for announcements; `claimed` is the name that the request gives.
    pub(super) fn name(&self, claimed: Option<&str>) -> String {
        match (claimed.filter(|name| !name.is_empty()), &self.identity) {
            (Some(name), CallerIdentity::Token(token) | CallerIdentity::Session(token)) => {
                format!("{name} (token {token})")
            }
            (None, CallerIdentity::Token(token) | CallerIdentity::Session(token)) => format!("token {token}"),
            (Some(name), CallerIdentity::User(user)) if name != &**user => format!("{name} (user {user})"),
            (_, CallerIdentity::User(user)) => user.to_string(),
            (Some(name), CallerIdentity::Local) => name.to_owned(),
            (None, CallerIdentity::Local) => "a local client without a token".to_owned(),
        }
    }
}

/// Why someone could not sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignInError {
    /// The token is not one of ours.
    Unknown,
    /// Too many logins failed; how long to wait.
    TooMany(Duration),
    /// There is no randomness.
    Unavailable,
}

impl AccessRules {
    /// The access rules of a listener at `address`, with a state of their own: to check them, and for tests.
    pub fn unkept(config: &Config, address: SocketAddr) -> Result<Self, ConfigError> {
        Self::new(config, address, &Arc::new(AccessState::in_memory(Clock::system())))
    }

    /// The access rules of a listener at `address`. The error names each unusable token. Blocks on disk I/O.
    pub fn new(config: &Config, address: SocketAddr, state: &Arc<AccessState>) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let mut known: Vec<Secret> = Vec::new();
        let mut read = |list: &str, name: &str, source: Result<SecretSource, &'static str>| {
            let mut report = |key: &str, message: String| problems.push(Problem::new(format!("{list}.{key}"), message));
            let source = match source {
                Ok(source) => source,
                Err(message) => {
                    report("token", message.to_owned());
                    return None;
                }
            };
            let key = source.key("token", "token_file");
            let read = source.read_blocking();
            let token_now = read.as_ref().ok().map(|secret| (Instant::now(), secret.clone()));
            match read {
                Err(error) => report(key, error.in_full()),
                Ok(secret) if known.contains(&secret) => {
                    report(key, "duplicate token: give each entry of auth.tokens and auth.share its own".to_owned());
                }
                Ok(secret) if !is_sendable(secret.expose()) => {
                    report(key, "contains surrounding white space or control characters, which cannot be sent in a header; remove them".to_owned());
                }
                Ok(secret) => known.push(secret),
            }
            Some(Arc::new(ConfiguredToken { name: Arc::from(name), source, known: Mutex::new(token_now) }))
        };
        let mut tokens = Vec::new();
        for (index, token) in config.auth.tokens.iter().enumerate() {
            let read = read(&format!("auth.tokens[{index}]"), &token.name, token.source());
            tokens.extend(read.map(|read| (token.role, read)));
        }
        let mut shares = Vec::new();
        for (index, share) in config.auth.share.iter().enumerate() {
            shares.extend(read(&format!("auth.share[{index}]"), &share.name, share.source()));
        }
        if !problems.is_empty() {
            return Err(ConfigError { problems });
        }
        let own_token = if address.ip().is_loopback() { None } else { state.own_token(config) };
        let has_own_token = own_token.is_some();
        tokens.extend(own_token.map(|token| (Role::Admin, token)));
        let url = reqwest::Url::parse(&config.external_url.0).ok();
        let external = url.as_ref().and_then(|url| {
            let (host, _) = host_and_port(url.host_str()?).ok()?;
            Some((url.scheme().to_owned(), host, url.port_or_known_default()?))
        });
        if !tokens.is_empty() {
            // Here rather than at the first request, as it may create a file.
            state.signer();
        }
        let prefix = url.map(|url| url.path().trim_end_matches('/').to_owned()).filter(|path| !path.is_empty());
        Ok(Self {
            state: Arc::clone(state),
            tokens,
            has_own_token,
            shares,
            proxy: config.auth.proxy.as_ref().map(ProxyRules::new),
            last_read: tokio::sync::Mutex::default(),
            loopback: config.auth.loopback,
            allowed_hosts: config.allowed_hosts.iter().filter_map(|host| host_and_port(host).ok()).collect(),
            external,
            prefix,
            is_tls: config.tls.cert_file.is_some(),
            address,
        })
    }

    /// The path of `external_url`, which a proxy may keep in requests.
    pub(super) fn prefix(&self) -> Option<&str> {
        self.prefix.as_deref()
    }

    /// Whether one can sign in with a token.
    pub(super) const fn has_tokens(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// Whether the only token is the one that lookout made itself.
    pub(super) const fn has_own_token(&self) -> bool {
        self.has_own_token
    }

    /// Reads the token files again, unless the request has a token that was read recently, or a session of one. Called before
    /// [`AccessRules::check`], which does not wait.
    pub(super) async fn renew(&self, headers: &HeaderMap) {
        if let Some(given) = given(headers) {
            self.renew_for(self.tokens.iter().map(|(_, token)| token), &given).await;
        } else if self.has_tokens() && headers.contains_key(header::COOKIE) {
            let cookies = self.state.signer().cookies(self.state.clock.wall(), headers);
            let is_fresh = self.session(&cookies).is_some_and(|(_, token, _)| token.is_fresh());
            if !cookies.is_empty() && !is_fresh {
                self.read_files().await;
            }
        }
    }

    /// Reads the token files again, unless `given` is one of these tokens and was read recently.
    async fn renew_for(&self, tokens: impl Iterator<Item = &Arc<ConfiguredToken>>, given: &[u8]) {
        // All tokens are compared, so that the timing does not reveal which one matched.
        let is_known = tokens.fold(false, |known, token| known | (token.is(given) & token.is_fresh()));
        if !is_known {
            self.read_files().await;
        }
    }

    /// Reads all token files. Concurrent requests share one read, and reads are rate-limited, since anyone can send a wrong
    /// token.
    async fn read_files(&self) {
        let all = || self.tokens.iter().map(|(_, token)| token).chain(&self.shares);
        let files = || all().filter(|token| matches!(token.source, SecretSource::File(_)));
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

    /// Checks whether a request meets the `requirement`, and returns its caller.
    pub(super) fn check<B>(
        &self,
        request: &Request<B>,
        requirement: Requirement,
        ends: RequestEnds,
    ) -> Result<Caller, ApiError> {
        if requirement == Requirement::Nothing {
            return Ok(Caller::default());
        }
        self.check_source(request, ends.local)?;
        let caller = self.identify(request.headers(), ends.peer)?;
        let Some(needed) = requirement.role() else { return Ok(caller.unwrap_or_default()) };
        match caller {
            Some(caller) if caller.role >= Some(needed) => {
                if caller.has_session() {
                    check_is_of_page(request.method(), request.headers())?;
                }
                Ok(caller)
            }
            Some(caller) => Err(lacks_role(&caller.identity)),
            None if matches!(requirement, Requirement::Scrape(_)) && self.is_open_to_scrapes() => Ok(Caller::default()),
            None if self.tokens.is_empty() && self.proxy.is_none() => {
                Err(forbidden("access from other machines needs a token; configure auth.tokens"))
            }
            None => Err(unauthenticated(request.headers())),
        }
    }

    /// Checks whether `Host` and `Origin` of a request are our own.
    fn check_source<B>(&self, request: &Request<B>, local: IpAddr) -> Result<(), ApiError> {
        let hosts = hosts(request)?;
        self.check_hosts(&hosts, local)?;
        self.check_origin(request.headers(), &hosts, local)?;
        check_site(request.method(), request.headers())
    }

    /// The caller by its token, as the user that a proxy names, by the cookie of its session, or by its address.
    fn identify(&self, headers: &HeaderMap, peer: IpAddr) -> Result<Option<Caller>, ApiError> {
        if let Some((role, token)) = given(headers).and_then(|given| self.token_of(&given)) {
            return Ok(Some(Caller { identity: CallerIdentity::Token(Arc::clone(&token.name)), role: Some(role) }));
        }
        if let Some(proxy) = &self.proxy {
            if proxy.trusts(peer) {
                if let Some((user, role)) = proxy.user(headers).map_err(forbidden)? {
                    return Ok(Some(Caller { identity: CallerIdentity::User(user), role }));
                }
            } else if proxy.is_named(headers) {
                self.state.stranger_logged.get_or_init(|| {
                    tracing::warn!(peer = %peer, "a user named by an address that is not in auth.proxy.from is ignored");
                });
            }
        }
        if self.has_tokens() && headers.contains_key(header::COOKIE) {
            let cookies = self.state.signer().cookies(self.state.clock.wall(), headers);
            if let Some((role, token, _)) = self.session(&cookies) {
                let identity = CallerIdentity::Session(Arc::clone(&token.name));
                return Ok(Some(Caller { identity, role: Some(role) }));
            }
        }
        let is_unset = self.tokens.is_empty() && self.proxy.is_none();
        let role = self.loopback.or(is_unset.then_some(Role::Admin)).filter(|_| self.address.ip().is_loopback());
        Ok(role.map(|role| Caller { identity: CallerIdentity::Local, role: Some(role) }))
    }

    /// Whether metrics may be scraped without a token: where neither one nor a proxy is configured, on an address of other
    /// machines.
    fn is_open_to_scrapes(&self) -> bool {
        (self.tokens.is_empty() || self.has_own_token) && self.proxy.is_none() && !self.address.ip().is_loopback()
    }

    /// The token with the highest role that `given` is.
    fn token_of(&self, given: &[u8]) -> Option<(Role, &Arc<ConfiguredToken>)> {
        // All tokens are compared, so that the timing does not reveal which one matched.
        self.tokens.iter().fold(None, |best: Option<(Role, _)>, (role, token)| match token.is(given) {
            true if best.is_none_or(|(best, _)| best < *role) => Some((*role, token)),
            _ => best,
        })
    }

    /// The first of these cookies that was issued for one of our tokens as it is now.
    fn session<'a>(&self, cookies: &'a [SessionCookie]) -> Option<(Role, &Arc<ConfiguredToken>, &'a SessionCookie)> {
        let signer = self.state.signer();
        let is_of = |token: &ConfiguredToken, cookie| {
            token.known().as_ref().is_some_and(|(_, secret)| signer.is_of(cookie, &token.name, secret))
        };
        cookies.iter().find_map(|cookie| {
            let (role, token) = self.tokens.iter().find(|(_, token)| is_of(token, cookie))?;
            Some((*role, token, cookie))
        })
    }

    /// Exchanges the token `given` for the cookie of a session.
    pub(super) async fn sign_in(&self, given: &str, peer: IpAddr) -> Result<String, SignInError> {
        let (state, given) = (&self.state, given.trim());
        state.logins.begin(state.clock.now(), peer).map_err(SignInError::TooMany)?;
        self.renew_for(self.tokens.iter().map(|(_, token)| token), given.as_bytes()).await;
        let token = self.token_of(given.as_bytes()).filter(|_| !given.is_empty());
        let Some((_, token)) = token else {
            // As often as the limit lets it.
            tracing::warn!(peer = %peer, "failed sign-in: unknown token");
            return Err(SignInError::Unknown);
        };
        state.logins.succeeded(peer);
        let issued = state.signer().issue(state.clock.wall(), &token.name, &Secret::new(given));
        let value = issued.map_err(|_| SignInError::Unavailable)?;
        tracing::info!(token = &*token.name, peer = %peer, "signed in");
        Ok(self.cookie(&value, sessions::LIFETIME))
    }

    /// Ends the session of a request; returns the cookie that takes its place.
    pub(super) fn sign_out(&self, headers: &HeaderMap) -> String {
        let (signer, now) = (self.state.signer(), self.state.clock.wall());
        let cookies = signer.cookies(now, headers);
        if let Some((_, token, cookie)) = self.session(&cookies) {
            tracing::info!(token = &*token.name, "signed out");
            signer.end(now, cookie.clone());
        }
        self.cookie("", Duration::ZERO)
    }

    /// The header that sets the cookie of a session. It names no path: then a browser takes the folder of the address that it
    /// asked for, which is the base of the page, whatever a proxy strips from it.
    fn cookie(&self, value: &str, lifetime: Duration) -> String {
        let is_secure = self.is_tls || self.external.as_ref().is_some_and(|(scheme, ..)| scheme == "https");
        let secure = if is_secure { "; Secure" } else { "" };
        let (name, seconds) = (self.state.signer().name(), lifetime.as_secs());
        format!("{name}={value}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
    }

    /// Whether `given` is the token of a link to the shared page.
    pub(super) async fn check_share<B>(
        &self,
        request: &Request<B>,
        given: &str,
        ends: RequestEnds,
    ) -> Result<(), ApiError> {
        self.check_source(request, ends.local)?;
        let state = &self.state;
        // Counted before it is compared: otherwise many guesses at once would pass.
        state.links.begin(state.clock.now(), ends.peer).map_err(|wait| {
            let message = format!("too many unknown links from this address; try again in {} s", wait.as_secs() + 1);
            let header = Some((header::RETRY_AFTER, "60"));
            ApiError { header, ..ApiError::new(StatusCode::TOO_MANY_REQUESTS, message) }
        })?;
        self.renew_for(self.shares.iter(), given.as_bytes()).await;
        let is_ours = self.shares.iter().fold(false, |found, share| found | share.is(given.as_bytes()));
        if !is_ours || given.trim().is_empty() {
            return Err(forbidden("unknown link; ask for a new one"));
        }
        state.links.succeeded(ends.peer);
        Ok(())
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

/// Rejects requests of a session that change something, unless they come from our own page: the cookie alone would be sent
/// by others, too.
fn check_is_of_page(method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
    let is_of_page = headers.contains_key(header::ORIGIN) && headers.contains_key(PAGE_HEADER);
    if matches!(*method, Method::GET | Method::HEAD) || is_of_page {
        return Ok(());
    }
    Err(forbidden("a session changes something only from lookout's own page; programs send a token"))
}

/// Whether a browser would ask its user for a password, in place of the page that signs in.
fn is_browser(headers: &HeaderMap) -> bool {
    let accepts = |kind: &str| {
        let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|accepted| accepted.trim().starts_with(kind))
    };
    headers.contains_key(FETCH_MODE)
        || headers.contains_key(PAGE_HEADER)
        || headers.contains_key(header::COOKIE)
        || accepts("text/html")
        || accepts("text/event-stream")
}

fn unauthenticated(headers: &HeaderMap) -> ApiError {
    let schemes = match is_browser(headers) {
        true => "Bearer realm=\"lookout\"",
        false => "Bearer realm=\"lookout\", Basic realm=\"lookout\"",
    };
    ApiError {
        header: Some((header::WWW_AUTHENTICATE, schemes)),
        ..ApiError::new(
            StatusCode::UNAUTHORIZED,
            "missing or unknown token; send one as `authorization: Bearer <token>`",
        )
    }
}

fn lacks_role(identity: &CallerIdentity) -> ApiError {
    let message = match identity {
        CallerIdentity::Local => {
            "the role of auth.loopback does not permit this request; send a token with the needed role"
        }
        CallerIdentity::Token(_) => "the role of the token does not permit this request",
        CallerIdentity::Session(_) => {
            "the role of the token that you signed in with does not permit this request; sign in with another one"
        }
        CallerIdentity::User(_) => "your role at the proxy does not permit this request",
    };
    ApiError { lacks_role: true, ..forbidden(message) }
}

fn forbidden(message: &str) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, message)
}

#[cfg(test)]
mod tests;
