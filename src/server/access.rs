//! Who may do what: addresses, Host and Origin, tokens and roles.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use http::{HeaderMap, Method, StatusCode, header};

use super::error::Refusal;
use crate::config::server::{AuthConfig, Role};
use crate::secret::SecretSource;

/// The rules of access in force.
#[derive(Debug)]
pub struct Access {
    tokens: Vec<Token>,
    loopback: Option<Role>,
    allowed_hosts: Vec<String>,
    address: SocketAddr,
}

#[derive(Debug)]
struct Token {
    name: Arc<str>,
    role: Role,
    source: SecretSource,
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
    /// Access to a listener at `address`. The error names the token and what is wrong with it.
    pub fn new(auth: &AuthConfig, allowed_hosts: &[String], address: SocketAddr) -> Result<Self, String> {
        let tokens = auth.tokens.iter().enumerate().map(|(place, token)| {
            let source = token.source().map_err(|problem| format!("auth.tokens[{place}]: {problem}"))?;
            Ok(Token { name: Arc::from(token.name.as_str()), role: token.role, source })
        });
        Ok(Self {
            tokens: tokens.collect::<Result<_, String>>()?,
            loopback: auth.loopback,
            allowed_hosts: allowed_hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
            address,
        })
    }

    /// Whether the request may be served, and who sends it.
    pub(super) fn check(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<Caller, Refusal> {
        let nobody = Caller::default();
        if matches!(path, "/-/healthy" | "/-/ready") {
            return Ok(nobody);
        }
        self.check_host(headers)?;
        self.check_origin(headers)?;
        let needed = match (method, path) {
            (&Method::GET | &Method::HEAD, _) => Role::Read,
            (_, "/api/state" | "/api/usage" | super::hooks::CLAUDE_CODE | super::callbacks::LITELLM) => Role::Ingest,
            (_, path) if super::otlp::signal(path).is_some() => Role::Ingest,
            _ => Role::Admin,
        };
        let is_loopback = self.address.ip().is_loopback();
        if self.tokens.is_empty() {
            return match (is_loopback, self.loopback) {
                (true, Some(role)) if needed > role => {
                    Err(forbidden("auth.loopback does not allow this without a token"))
                }
                (true, _) => Ok(nobody),
                (false, _) if path == "/metrics" => Ok(nobody),
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
        // Every token is compared, so that the time taken tells nothing of which one came close.
        self.tokens.iter().fold(None, |best: Option<&Token>, one| match one.source.read() {
            Ok(secret) if same(secret.expose().as_bytes(), &given) => {
                if best.is_some_and(|best| best.role >= one.role) { best } else { Some(one) }
            }
            Ok(_) => best,
            Err(error) => {
                tracing::error!(token = &*one.name, error = %error, "token not readable; its bearer is refused");
                best
            }
        })
    }

    /// Refuses names that a foreign page could have pointed at this address.
    fn check_host(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(host) = headers.get(header::HOST) else { return Ok(()) };
        let host = host.to_str().map_err(|_| forbidden("the Host header is not text"))?;
        if self.is_ours(host) {
            return Ok(());
        }
        let shown = crate::model::text::clean(host, 100);
        Err(forbidden(&format!("the Host `{shown}` is not known here; add it to allowed_hosts")))
    }

    fn check_origin(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
        let origin = origin.to_str().unwrap_or_default();
        let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        if host.is_some_and(|host| self.is_ours(host)) {
            return Ok(());
        }
        Err(forbidden("requests from pages of other origins are refused"))
    }

    fn is_ours(&self, host_and_port: &str) -> bool {
        let lower = host_and_port.to_ascii_lowercase();
        let host = match lower.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => lower.rsplit_once(':').map_or(&*lower, |(host, _)| host),
        };
        let ip = host.parse::<std::net::IpAddr>().ok();
        host == "localhost"
            || ip.is_some_and(|ip| ip.is_loopback() || ip == self.address.ip())
            // A listener on all addresses is reached by any of them; a name must be listed.
            || (self.address.ip().is_unspecified() && ip.is_some())
            || self.allowed_hosts.iter().any(|allowed| *allowed == host || *allowed == lower)
    }
}

fn forbidden(message: &str) -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, message)
}

/// Whether two byte strings are the same, in a time that depends on their lengths only.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::server::TokenConfig;
    use crate::secret::Secret;

    fn access(address: &str, tokens: &[(Role, &str)], loopback: Option<Role>) -> Access {
        let tokens = tokens
            .iter()
            .map(|(role, token)| TokenConfig {
                name: "t".into(),
                role: *role,
                token: Some(Secret::new(*token)),
                token_file: None,
            })
            .collect();
        Access::new(&AuthConfig { tokens, loopback }, &["lookout".into()], address.parse().expect("address"))
            .expect("access")
    }

    fn status(access: &Access, method: &str, path: &str, headers: &[(&'static str, &str)]) -> u16 {
        let headers = headers
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), value.parse().expect("value")))
            .collect();
        let method = method.parse().expect("method");
        access.check(&method, path, &headers).map_or_else(|refusal| refusal.status.as_u16(), |_| 200)
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
    fn foreign_names_and_pages_are_refused() {
        let access = access("127.0.0.1:9797", &[], None);
        for (name, value, expected) in [
            ("host", "localhost:9797", 200),
            ("host", "127.0.0.1", 200),
            ("host", "[::1]:9797", 200),
            ("host", "lookout:9797", 200),
            ("host", "evil.example", 403),
            ("host", "127.0.0.1.evil.example:9797", 403),
            ("origin", "http://localhost:3000", 200),
            ("origin", "https://evil.example", 403),
            ("origin", "null", 403),
        ] {
            assert_eq!(status(&access, "GET", "/api/status", &[(name, value)]), expected, "{name}: {value}");
        }
    }
}
