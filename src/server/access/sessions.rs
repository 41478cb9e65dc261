//! Sessions of browsers: cookies that a token was exchanged for.
//!
//! A cookie holds no secret and refers to no stored session. It is signed with a key that is made of the token and of a
//! random key of this sidecar: a session ends with its token, survives a restart, and a cookie does not help to guess the
//! token.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, header};
use ring::hmac;

use crate::model::Time;
use crate::secret::{Secret, kept};

/// How long a session lasts.
pub(in crate::server) const LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// Ended sessions that are remembered until they would have expired.
const MAX_ENDED: usize = 10_000;
/// Cookies of our name that are read. A browser sends one, unless another path of this host has one, too.
const MAX_COOKIES: usize = 16;

/// The content of a session's cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SessionCookie {
    /// When it expires, in seconds of Unix time.
    expires: i64,
    /// A random number in hex, by which it can be ended.
    number: String,
    signature: Vec<u8>,
}

impl SessionCookie {
    fn parse(text: &str) -> Option<Self> {
        let (expires, rest) = text.split_once('.')?;
        let (number, signature) = rest.split_once('.')?;
        let is_plain = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !is_plain(number) || number.len() != 32 || !is_plain(signature) || signature.len() != 64 {
            return None;
        }
        if !expires.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        Some(Self {
            expires: expires.parse().ok()?,
            number: number.to_owned(),
            signature: hex::decode(signature).ok()?,
        })
    }
}

/// Signs and checks cookies.
#[derive(Debug)]
pub(super) struct SessionSigner {
    key: hmac::Key,
    /// The name of the cookie. Browsers send cookies of one host to all its ports, so that each sidecar needs its own.
    name: String,
    /// The numbers of sessions that were ended before they expired, with when they would have.
    ended: Mutex<HashMap<String, i64>>,
}

impl SessionSigner {
    /// Signs with the key in the file at `path`, which is made if there is none; without a file sessions end with the program.
    pub(super) fn open(path: Option<&Path>) -> Self {
        let kept = path.map(|path| kept::keep(path).map(|(key, _)| key));
        let key = match kept {
            Some(Ok(key)) => Ok(key),
            Some(Err(error)) => {
                tracing::warn!(error = %error, "the key of sessions cannot be kept in its file; sessions of browsers end with this process");
                kept::random()
            }
            None => kept::random(),
        };
        let key = key.unwrap_or_else(|error| {
            tracing::error!(error = %error, "no key for sessions; signing in will not last");
            Secret::new(String::new())
        });
        Self::new(&key)
    }

    fn new(key: &Secret) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose().as_bytes());
        let name = hex::encode(hmac::sign(&key, b"name of the cookie"));
        Self { key, name: format!("lookout_{}", name.get(..8).unwrap_or_default()), ended: Mutex::default() }
    }

    /// The name of the cookie.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The value of the cookie of a new session by the token `name`.
    pub(super) fn issue(&self, now: Time, name: &str, token: &Secret) -> std::io::Result<String> {
        let number = kept::random()?;
        let number = number.expose().get(..32).unwrap_or_default().to_owned();
        let expires = now.plus(LIFETIME).as_millis() / 1000;
        let signature = hmac::sign(&self.key_of(token), message(name, expires, &number).as_bytes());
        Ok(format!("{expires}.{number}.{}", hex::encode(signature)))
    }

    /// The cookies of a request that have not expired. Their signature is not checked yet.
    pub(super) fn cookies(&self, now: Time, headers: &HeaderMap) -> Vec<SessionCookie> {
        let now = now.as_millis() / 1000;
        let last = now + i64::try_from(LIFETIME.as_secs()).unwrap_or_default();
        let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        values
            .flat_map(|value| value.split(';'))
            .filter_map(|cookie| cookie.trim().split_once('='))
            .filter(|(name, _)| *name == self.name)
            .filter_map(|(_, value)| SessionCookie::parse(value))
            .filter(|cookie| (now + 1..=last).contains(&cookie.expires) && !self.is_ended(cookie))
            .take(MAX_COOKIES)
            .collect()
    }

    /// Whether the cookie was issued for the token `name` with this value.
    pub(super) fn is_of(&self, cookie: &SessionCookie, name: &str, token: &Secret) -> bool {
        let message = message(name, cookie.expires, &cookie.number);
        hmac::verify(&self.key_of(token), message.as_bytes(), &cookie.signature).is_ok()
    }

    /// Ends a session whose cookie was checked.
    pub(super) fn end(&self, now: Time, cookie: SessionCookie) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.len() >= MAX_ENDED {
            let now = now.as_millis() / 1000;
            ended.retain(|_, expires| *expires > now);
            if ended.len() >= MAX_ENDED
                && let Some(first) = ended.iter().min_by_key(|(_, expires)| **expires).map(|(number, _)| number.clone())
            {
                ended.remove(&first);
            }
        }
        ended.insert(cookie.number, cookie.expires);
    }

    fn is_ended(&self, cookie: &SessionCookie) -> bool {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&cookie.number)
    }

    fn key_of(&self, token: &Secret) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&self.key, token.expose().as_bytes()).as_ref())
    }
}

/// What is signed. Names have no control characters.
fn message(name: &str, expires: i64, number: &str) -> String {
    format!("session\n{name}\n{expires}\n{number}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn signer(key: &str) -> SessionSigner {
        SessionSigner::new(&Secret::new(key))
    }

    /// The cookies of a request with this value that the token `ops` accepts.
    fn accepted(signer: &SessionSigner, clock: &Clock, value: &str, token: &str) -> usize {
        let cookie = format!("theme=dark; {}={value}", signer.name());
        let headers = HeaderMap::from_iter([(header::COOKIE, cookie.parse().expect("a header"))]);
        let cookies = signer.cookies(clock.wall(), &headers);
        cookies.iter().filter(|cookie| signer.is_of(cookie, "ops", &Secret::new(token))).count()
    }

    #[test]
    fn a_session_lasts_twelve_hours() {
        let (signer, clock) = (signer("key"), Clock::at(Time::from_millis(1_796_000_000_000)));
        let value = signer.issue(clock.wall(), "ops", &Secret::new("token")).expect("a cookie");
        assert_eq!(accepted(&signer, &clock, &value, "token"), 1);
        clock.advance(LIFETIME - Duration::from_secs(1));
        assert_eq!(accepted(&signer, &clock, &value, "token"), 1);
        clock.advance(Duration::from_secs(1));
        assert_eq!(accepted(&signer, &clock, &value, "token"), 0);
        // The wall clock was set back: a session is never longer than it may be.
        clock.set_wall(Time::from_millis(1_795_000_000_000));
        assert_eq!(accepted(&signer, &clock, &value, "token"), 0);
    }

    #[test]
    fn a_forged_cookie_is_rejected() {
        let (one, clock) = (signer("key"), Clock::at(Time::from_millis(1_796_000_000_000)));
        let value = one.issue(clock.wall(), "ops", &Secret::new("token")).expect("a cookie");
        assert_eq!(accepted(&one, &clock, &value, "token"), 1);
        assert_eq!(accepted(&one, &clock, &value, "other token"), 0, "the token was changed");
        let of_other_name = one.issue(clock.wall(), "dev", &Secret::new("token")).expect("a cookie");
        assert_eq!(accepted(&one, &clock, &of_other_name, "token"), 0);
        assert_eq!(accepted(&signer("other key"), &clock, &value, "token"), 0);
        // Each bit of it matters.
        for at in 0..value.len() {
            for bit in 0..8 {
                let mut bytes = value.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let is_sendable = |byte: &u8| (0x21..0x7f).contains(byte) && *byte != b';';
                if bytes.iter().all(is_sendable) {
                    let forged = String::from_utf8(bytes).expect("text");
                    assert_eq!(accepted(&one, &clock, &forged, "token"), 0, "{forged}");
                }
            }
        }
        let (expires, rest) = value.split_once('.').expect("parts");
        let later = format!("{}.{rest}", expires.parse::<i64>().expect("a number") - 60);
        for forged in ["", "..", "1.2.3", &later, &format!("+{value}"), &format!("{value}00"), &value.to_uppercase()] {
            assert_eq!(accepted(&one, &clock, forged, "token"), 0, "{forged}");
        }
    }

    #[test]
    fn an_ended_session_stays_ended() {
        let (signer, clock) = (signer("key"), Clock::at(Time::from_millis(1_796_000_000_000)));
        let issue = || signer.issue(clock.wall(), "ops", &Secret::new("token")).expect("a cookie");
        let [ended, other] = [issue(), issue()];
        let parsed = SessionCookie::parse(&ended).expect("a cookie");
        signer.end(clock.wall(), parsed);
        assert_eq!(accepted(&signer, &clock, &ended, "token"), 0);
        assert_eq!(accepted(&signer, &clock, &other, "token"), 1, "another session of the same moment goes on");
        for _ in 0..2 * MAX_ENDED {
            signer.end(
                clock.wall(),
                SessionCookie {
                    number: fastrand::u64(..).to_string(),
                    ..SessionCookie::parse(&other).expect("a cookie")
                },
            );
        }
        assert!(signer.ended.lock().expect("a lock").len() <= MAX_ENDED);
    }

    #[test]
    fn the_key_is_kept() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("lookout.session.key");
        let clock = Clock::at(Time::from_millis(1_796_000_000_000));
        let value =
            SessionSigner::open(Some(&path)).issue(clock.wall(), "ops", &Secret::new("token")).expect("a cookie");
        assert_eq!(accepted(&SessionSigner::open(Some(&path)), &clock, &value, "token"), 1);
        assert_eq!(accepted(&SessionSigner::open(None), &clock, &value, "token"), 0);
    }
}
