//! Users that a proxy has authenticated and names in headers.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use crate::config::server::{ProxyConfig, Role};
use crate::text;

/// Maximum length of a user's name in bytes.
const MAX_NAME: usize = 100;

/// A user's name and role.
pub(super) type ProxyUser = (Arc<str>, Option<Role>);

/// Which addresses may name users, and how.
#[derive(Debug)]
pub(super) struct ProxyRules {
    from: Vec<IpNet>,
    user_header: Option<HeaderName>,
    role_header: Option<HeaderName>,
    default_role: Option<Role>,
}

impl ProxyRules {
    pub(super) fn new(config: &ProxyConfig) -> Self {
        let header = |name: &str| HeaderName::from_bytes(name.as_bytes()).ok();
        Self {
            from: config.networks(),
            user_header: header(&config.user_header),
            role_header: config.role_header.as_deref().and_then(header),
            default_role: config.default_role,
        }
    }

    /// Whether `peer` is the proxy.
    pub(super) fn trusts(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.from.iter().any(|network| network.contains(&peer))
    }

    /// Whether a request names a user.
    pub(super) fn is_named(&self, headers: &HeaderMap) -> bool {
        self.user_header.as_ref().is_some_and(|name| headers.contains_key(name))
    }

    /// The user that a request of the proxy names, and the role. The error says what is ambiguous: a proxy that adds its header
    /// to that of the client would let the client choose.
    pub(super) fn user(&self, headers: &HeaderMap) -> Result<Option<ProxyUser>, &'static str> {
        let name = one(headers, self.user_header.as_ref())
            .ok_or("the proxy sends the header of the user more than once; let it replace what the client sent")?;
        let name = text::clean(name.trim(), MAX_NAME);
        if name.trim().is_empty() {
            return Ok(None);
        }
        let role = one(headers, self.role_header.as_ref())
            .ok_or("the proxy sends the header of the role more than once; let it replace what the client sent")?;
        // Not at white space: a group `Kitchen Admin` is not `admin`.
        let words = role.split([',', ';']);
        let role = words
            .filter_map(|word| match word.trim().to_ascii_lowercase().as_str() {
                "read" => Some(Role::Read),
                "ingest" => Some(Role::Ingest),
                "admin" => Some(Role::Admin),
                _ => None,
            })
            .max();
        Ok(Some((Arc::from(&*name), role.or(self.default_role))))
    }
}

/// The value of a header, empty if there is none; `None` if there are several.
fn one<'h>(headers: &'h HeaderMap, name: Option<&HeaderName>) -> Option<std::borrow::Cow<'h, str>> {
    let Some(name) = name else { return Some("".into()) };
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (_, Some(_)) => None,
        (first, None) => Some(first.map_or_else(|| "".into(), |value| String::from_utf8_lossy(value.as_bytes()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(role_header: Option<&str>, default_role: Option<Role>) -> ProxyRules {
        ProxyRules::new(&ProxyConfig {
            from: vec!["10.0.0.0/8".to_owned(), "192.0.2.7".to_owned(), "2001:db8::/32".to_owned()],
            user_header: "X-Forwarded-User".to_owned(),
            role_header: role_header.map(ToOwned::to_owned),
            default_role,
        })
    }

    #[test]
    fn only_the_listed_addresses_are_trusted() {
        let rules = rules(None, Some(Role::Read));
        for (peer, expected) in [
            ("10.255.0.1", true),
            ("::ffff:10.1.2.3", true),
            ("192.0.2.7", true),
            ("2001:db8:1::1", true),
            ("11.0.0.1", false),
            ("192.0.2.8", false),
            ("127.0.0.1", false),
            ("::1", false),
            ("2001:db9::1", false),
        ] {
            assert_eq!(rules.trusts(peer.parse().expect("an address")), expected, "{peer}");
        }
    }

    #[test]
    fn the_highest_named_role_counts() {
        let named = |headers: &[(&'static str, &'static str)], rules: &ProxyRules| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, value.parse().expect("a value"));
            }
            rules.user(&map).map(|user| user.map(|(name, role)| (name.to_string(), role)))
        };
        let (by_header, by_default) = (rules(Some("x-role"), None), rules(None, Some(Role::Read)));
        let user = |name: &str, role| Ok(Some((name.to_owned(), role)));
        for (headers, rules, expected) in [
            (&[("x-forwarded-user", "ann")][..], &by_default, user("ann", Some(Role::Read))),
            (&[("x-forwarded-user", "ann"), ("x-role", "admin")], &by_default, user("ann", Some(Role::Read))),
            (&[("x-forwarded-user", "ann")], &by_header, user("ann", None)),
            (&[("x-forwarded-user", "ann"), ("x-role", "Admin")], &by_header, user("ann", Some(Role::Admin))),
            (
                &[("x-forwarded-user", "ann"), ("x-role", "dev, ingest,read")],
                &by_header,
                user("ann", Some(Role::Ingest)),
            ),
            (&[("x-forwarded-user", "ann"), ("x-role", "administrators")], &by_header, user("ann", None)),
            (&[("x-forwarded-user", "ann"), ("x-role", "Kitchen Admin, admin of till")], &by_header, user("ann", None)),
            (&[("x-forwarded-user", "  ")], &by_default, Ok(None)),
            (&[("x-role", "admin")], &by_header, Ok(None)),
        ] {
            assert_eq!(named(headers, rules), expected, "{headers:?}");
        }
        for twice in ["x-forwarded-user", "x-role"] {
            let headers = [("x-forwarded-user", "ann"), ("x-role", "read"), (twice, "admin")];
            assert!(named(&headers, &by_header).is_err(), "{twice}");
        }
    }
}
