//! Keys of APIs in text that others wrote: found by their shape, and masked.
//!
//! An agent's last words often are the command that failed, with its key. Refuses to guess: a shape is a known beginning
//! and enough of the right letters after it, so that words stay words.

use std::borrow::Cow;

/// What stands in place of a key.
const MASK: &str = "***";
/// No key is shorter, in bytes; most texts are.
const SHORTEST: usize = 16;

/// How keys begin, and how much must follow of letters, digits, `_` and `-`, one of them a digit.
const SHAPES: [(&str, usize); 33] = [
    ("sk-", 17),
    ("sk_live_", 16),
    ("sk_test_", 16),
    ("rk_live_", 16),
    ("pk_live_", 16),
    ("whsec_", 16),
    ("gsk_", 20),
    ("xai-", 20),
    ("pplx-", 20),
    ("nvapi-", 20),
    ("r8_", 30),
    ("hf_", 20),
    ("AIza", 30),
    ("ya29.", 20),
    ("AKIA", 16),
    ("ASIA", 16),
    ("ghp_", 20),
    ("gho_", 20),
    ("ghu_", 20),
    ("ghs_", 20),
    ("ghr_", 20),
    ("github_pat_", 20),
    ("glpat-", 16),
    ("npm_", 30),
    ("pypi-", 30),
    ("dop_v1_", 30),
    ("xoxb-", 10),
    ("xoxp-", 10),
    ("xoxa-", 10),
    ("xoxs-", 10),
    ("xapp-", 10),
    ("SG.", 20),
    ("lsv2_", 20),
];
/// What names a secret before `=`.
const NAMES: [&str; 8] = ["api_key", "apikey", "api-key", "password", "passwd", "secret", "access_token", "auth_token"];
/// How short a value after such a name may be.
const SHORTEST_VALUE: usize = 6;
/// What an authorization says before its credentials.
const SCHEMES: [&str; 2] = ["Bearer ", "Basic "];
/// How a key in PEM begins, and what is among the words after it.
const PEM: &str = "-----BEGIN ";
const PEM_NAME: &str = "PRIVATE KEY";
/// So far a key must show its digit, in bytes: what is not found by then is looked for no further, since any point of a
/// long text may look like the beginning of a key.
const FAR: usize = 128;
/// How short credentials may be.
const SHORTEST_CREDENTIALS: usize = 12;

/// `text` with `***` in place of each key.
pub fn mask(text: &str) -> Cow<'_, str> {
    if text.len() < SHORTEST || !is_suspicious(text) {
        return Cow::Borrowed(text);
    }
    let mut masked = String::new();
    let (mut kept, mut at) = (0, 0);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let is_start = at == 0 || !text.as_bytes().get(at - 1).is_some_and(|byte| is_token(*byte));
        let found = if is_start { key(rest) } else { None };
        match found.or_else(|| credentials(rest)).or_else(|| pem(rest)) {
            Some((before, length)) => {
                masked.push_str(text.get(kept..at + before).unwrap_or_default());
                masked.push_str(MASK);
                at += before + length;
                kept = at;
            }
            None => at += rest.chars().next().map_or(1, char::len_utf8),
        }
    }
    if kept == 0 {
        return Cow::Borrowed(text);
    }
    masked.push_str(text.get(kept..).unwrap_or_default());
    Cow::Owned(masked)
}

/// Whether there is anything in it that all keys have: most texts are passed at a glance.
fn is_suspicious(text: &str) -> bool {
    let mut run = 0;
    text.bytes().any(|byte| {
        run = if is_token(byte) { run + 1 } else { 0 };
        run >= SHORTEST_CREDENTIALS || matches!(byte, b'@' | b'=')
    }) || text.contains(PEM)
}

/// A key that `text` begins with: where the secret of it begins, and its length.
fn key(text: &str) -> Option<(usize, usize)> {
    // Most letters begin none.
    if !text.bytes().next().is_some_and(|first| first.is_ascii_alphabetic()) {
        return None;
    }
    let run = |text: &str, is_part: fn(u8) -> bool| text.bytes().take_while(|byte| is_part(*byte)).count();
    let is_part = |byte: u8| is_token(byte) || byte == b'.';
    for (start, least) in SHAPES {
        if let Some(tail) = text.strip_prefix(start) {
            let near = || tail.bytes().take(FAR).take_while(|byte| is_part(*byte));
            if near().count() >= least && near().any(|byte| byte.is_ascii_digit()) {
                return Some((0, start.len() + run(tail, is_part)));
            }
        }
    }
    // A JSON Web Token: three parts or, encrypted, five, the first of which is an object.
    if text.starts_with("eyJ") {
        let length = run(text, is_part);
        let token = text.get(..length).unwrap_or_default();
        if length >= SHORTEST && token.bytes().filter(|byte| *byte == b'.').count() >= 2 {
            return Some((0, length));
        }
    }
    let lower = |name: &str| text.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    if let Some(scheme) = SCHEMES.into_iter().find(|scheme| lower(scheme)) {
        let length = run(text.get(scheme.len()..)?, |byte| is_token(byte) || b".+/=~".contains(&byte));
        let credentials = text.get(scheme.len()..scheme.len() + length)?;
        // Words that may follow are in lower case throughout.
        let is_word = credentials.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        return (length >= SHORTEST_CREDENTIALS && !is_word).then_some((scheme.len(), length));
    }
    if let Some(name) = NAMES.into_iter().find(|name| lower(name)) {
        let value = text.get(name.len()..)?.strip_prefix('=')?;
        let quote = usize::from(value.starts_with(['"', '\'']));
        let length = run(value.get(quote..)?, |byte| !byte.is_ascii_whitespace() && !b"\"'&,;)".contains(&byte));
        return (length >= SHORTEST_VALUE).then_some((name.len() + 1 + quote, length));
    }
    None
}

/// A private key in PEM that `text` begins with: all that follows, since its lines may be broken anywhere.
fn pem(text: &str) -> Option<(usize, usize)> {
    let tail = text.strip_prefix(PEM)?;
    let is_word = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b' ';
    let words = tail.get(..tail.bytes().take_while(is_word).count())?;
    words.contains(PEM_NAME).then_some((0, text.len()))
}

/// A password in an address, `://user:password@`, that `text` begins with.
fn credentials(text: &str) -> Option<(usize, usize)> {
    let user = text.strip_prefix("://")?;
    let authority = user.split(['/', ' ', '?', '#']).next().unwrap_or_default();
    let (login, _) = authority.rsplit_once('@')?;
    let (name, password) = login.split_once(':')?;
    (!password.is_empty()).then_some((3 + name.len() + 1, password.len()))
}

const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Keys as their issuers shape them; none is anybody's. Put together here, so that no scanner takes them for real.
    fn corpus() -> Vec<String> {
        let (hex, mixed) = ("0123456789abcdef0123456789abcdef01234567", "aB3dE5gH7jK9mN1pQ3sT5vX7zA9cE1gH3jK5mN7pQ9");
        let of =
            |start: &str, tail: &str, length: usize| format!("{start}{}", tail.get(..length).expect("long enough"));
        vec![
            of("sk-ant-api03-", mixed, 40),
            of("sk-proj-", mixed, 40),
            of("sk-svcacct-", mixed, 30),
            of("sk-or-v1-", hex, 40),
            of("sk-lf-", hex, 32),
            of("sk-", hex, 32),
            of("sk_live_", mixed, 24),
            of("AIza", mixed, 35),
            of("ya29.", mixed, 40),
            of("gsk_", mixed, 40),
            of("xai-", mixed, 40),
            of("pplx-", hex, 40),
            of("nvapi-", mixed, 40),
            of("r8_", mixed, 37),
            of("hf_", mixed, 34),
            of("AKIA", "0123456789ABCDEF", 16),
            of("ghp_", mixed, 36),
            of("github_pat_", mixed, 40),
            of("glpat-", mixed, 20),
            of("npm_", mixed, 36),
            of("xoxb-", "123456789012-123456789012", 25),
            of("lsv2_pt_", hex, 32),
            format!("SG.{}.{}", of("", mixed, 22), of("", mixed, 40)),
            format!("{}.{}.{}", of("eyJ", mixed, 30), of("eyJ", mixed, 30), of("", mixed, 30)),
        ]
    }

    #[test]
    fn keys_are_masked_wherever_they_stand() {
        for key in corpus() {
            for (before, after) in
                [("", ""), ("curl -H x-api-key: ", " failed"), ("key=", "&x=1"), ("«", "»"), ("\"", "\"")]
            {
                let text = format!("{before}{key}{after}");
                let masked = mask(&text);
                assert_eq!(masked, format!("{before}***{after}"), "{text}");
            }
        }
        for (text, expected) in [
            ("Authorization: Bearer abcdefgh1jklmnop", "Authorization: Bearer ***"),
            ("authorization: basic dXNlcjpwYXNzd29yZA==", "authorization: basic ***"),
            ("postgres://shop:hunter2@db:5432/shop", "postgres://shop:***@db:5432/shop"),
            ("https://x.example/?api_key=hunter2hunter&b=1", "https://x.example/?api_key=***&b=1"),
            ("PASSWORD=\"hunter2hunter\" ./run", "PASSWORD=\"***\" ./run"),
            ("-----BEGIN RSA PRIVATE KEY-----\nMIIE", "***"),
            ("it is-----BEGIN PRIVATE KEY-----\nMIIE", "it is***"),
        ] {
            assert_eq!(mask(text), expected);
        }
    }

    #[test]
    fn words_stay_words() {
        for text in [
            "waiting_question: permission to run Bash",
            "task-management-of-the-third-kind-2026",
            "sk-learn-pipeline-for-the-shop",
            "the bearer of this message is late",
            "basic authentication failed for user",
            "https://lookout.example.com:9797/alerts?x=1",
            "mail to ann@example.com: done",
            "api_key=",
            "password=***",
            "risk-assessment-0001-of-the-quarter",
            "eyJust a name with dots . . .",
            "claude-opus-4-8-20260101-preview",
            "gpt-5.1-codex-max-2026-11-21",
        ] {
            assert_eq!(mask(text), text);
        }
    }

    /// Text in which every few bytes look like the beginning of a key takes no longer than other text.
    #[test]
    fn what_almost_is_a_key_costs_no_more() {
        for almost in ["sk-.", "eyJ ", "eyJ.x ", "-----BEGIN ", "Bearer x.", "password=a ", "://a:b", "a@b"] {
            let text = almost.repeat((1 << 20) / almost.len());
            let masked = mask(&text);
            assert!(masked.len() <= text.len(), "{almost}");
        }
    }

    proptest! {
        #[test]
        fn masking_twice_is_masking_once(text in "(sk-|Bearer |://a:|@|eyJ|password=|[a-z0-9._ \"é-]){0,12}") {
            let once = mask(&text).into_owned();
            prop_assert_eq!(mask(&once), once.as_str());
        }
    }
}
