//! Masks keys and passwords in external text, such as the failed command of an agent.
//!
//! A secret is recognized by its shape (a known prefix followed by enough valid characters) or by a name before it that only
//! secrets have, so that prose is not masked. Takes time linear in the length of the text.

use std::borrow::Cow;

/// The replacement of a secret.
const MASK: &str = "***";
/// Minimum length of a text with a secret, in bytes: `pwd=x`.
const SHORTEST: usize = 5;

/// Prefixes of keys, and the minimum number of letters, digits, `_` and `-` after them, at least one a digit.
const SHAPES: [(&str, usize); 50] = [
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
    ("GOCSPX-", 20),
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
    ("xoxe-", 10),
    ("xoxe.", 10),
    ("xapp-", 10),
    ("SG.", 20),
    ("lsv2_", 20),
    ("hvs.", 20),
    ("dapi", 32),
    ("glsa_", 20),
    ("lin_api_", 20),
    ("ntn_", 30),
    ("phc_", 30),
    ("phx_", 30),
    ("sntrys_", 20),
    ("shpat_", 20),
    ("tvly-", 20),
    ("pcsk_", 20),
    ("jina_", 20),
    ("AGE-SECRET-KEY-1", 20),
    ("lk_", 32),
];
/// Endings of names that only secrets have, in lower case and without `_` and `-`: `DB_PASSWORD`,
/// `x-api-key`, `clientSecret`.
const SECRETS: [&str; 23] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "apikey",
    "accesskey",
    "secretkey",
    "privatekey",
    "accountkey",
    "authkey",
    "signingkey",
    "encryptionkey",
    "masterkey",
    "credential",
    "credentials",
    "apitoken",
    "accesstoken",
    "authtoken",
    "refreshtoken",
    "sessiontoken",
    "bearertoken",
    "authorizationtoken",
];
/// Endings of names that other values have too, such as tokens of a parser. The value must not be a number or prose.
const TOKENS: [&str; 2] = ["token", "pass"];
/// Endings of names that mostly other values have. The value must look like a key.
const KEYS: [&str; 2] = ["key", "auth"];
/// Query parameters that are secrets.
const PARAMETERS: [&str; 8] = ["key", "sig", "signature", "token", "auth", "code", "pass", "credential"];
/// Maximum length of these names in bytes.
const MAX_NAME: usize = 24;
/// Minimum length of tokens and of keys.
const SHORTEST_TOKEN: usize = 8;
const SHORTEST_KEY: usize = 16;
/// Authorization schemes before credentials.
const SCHEMES: [&str; 2] = ["Bearer ", "Basic "];
/// All authorization schemes in a header, in lower case.
const HEADER_SCHEMES: [&str; 8] =
    ["bearer", "basic", "token", "digest", "apikey", "negotiate", "key", "aws4-hmac-sha256"];
/// Words after the name of a secret in prose, in lower case: `password: required`.
const WORDS: [&str; 36] = [
    "required",
    "incorrect",
    "invalid",
    "expired",
    "missing",
    "not",
    "wrong",
    "must",
    "is",
    "was",
    "failed",
    "denied",
    "null",
    "none",
    "nil",
    "true",
    "false",
    "empty",
    "unknown",
    "too",
    "no",
    "undefined",
    "unset",
    "rejected",
    "refused",
    "revoked",
    "needed",
    "mismatch",
    "string",
    "unauthorized",
    "forbidden",
    "redacted",
    "hidden",
    "set",
    "or",
    "and",
];
/// The start of a PEM block, and the words that identify a private key.
const PEM: &str = "-----BEGIN ";
const PEM_NAME: &str = "PRIVATE KEY";
/// Number of bytes within which a key must contain a digit. Limits the search, since any position of a long text may look
/// like the start of a key.
const DIGIT_WITHIN: usize = 128;
/// Minimum length of credentials.
const SHORTEST_CREDENTIALS: usize = 12;

/// A secret as its offset from the examined position, and its length.
type Found = (usize, usize);

/// `text` with each key and password replaced by `***`.
pub fn mask(text: &str) -> Cow<'_, str> {
    mask_across(text, &[])
}

/// [`mask`] for a text from which something was removed at the positions `breaks`, in ascending order: a key may start there.
pub fn mask_across<'t>(text: &'t str, breaks: &[usize]) -> Cow<'t, str> {
    if text.len() < SHORTEST || !is_suspicious(text, !breaks.is_empty()) {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut masked = String::new();
    let (mut kept, mut at, mut is_in_word) = (0, 0, false);
    while let Some(byte) = bytes.get(at).copied() {
        let is_part = is_token(byte);
        let starts_word = is_part && (!is_in_word || breaks.binary_search(&at).is_ok());
        // Most bytes are inside of words, where nothing starts but a PEM block.
        let found = if starts_word || matches!(byte, b':' | b'-') { secret_at(text, at, starts_word) } else { None };
        match found {
            Some((before, length)) => {
                masked.push_str(text.get(kept..at + before).unwrap_or_default());
                masked.push_str(MASK);
                at += before + length;
                kept = at;
                is_in_word = at.checked_sub(1).and_then(|before| bytes.get(before)).copied().is_some_and(is_token);
            }
            None => {
                at += 1;
                is_in_word = is_part;
            }
        }
    }
    if kept == 0 {
        return Cow::Borrowed(text);
    }
    masked.push_str(text.get(kept..).unwrap_or_default());
    Cow::Owned(masked)
}

/// The secret that is at the position `at` of `text`, or whose name is.
fn secret_at(text: &str, at: usize, starts_word: bool) -> Option<Found> {
    let rest = text.get(at..)?;
    let before = at.checked_sub(1).and_then(|before| text.as_bytes().get(before)).copied();
    let word = if starts_word { key(rest).or_else(|| named(rest, before)) } else { None };
    word.or_else(|| credentials(rest)).or_else(|| pem(rest))
}

/// The prefixes of keys that start with a byte, a bit for each.
static SHAPES_BY_FIRST: [u64; 256] = {
    let mut shapes = [0; 256];
    let mut shape = 0;
    while shape < SHAPES.len() {
        shapes[SHAPES[shape].0.as_bytes()[0] as usize] |= 1 << shape;
        shape += 1;
    }
    shapes
};

/// Whether a key can start with a byte: by its prefix, as a JSON Web Token, or after an authorization scheme.
fn starts_key(first: u8) -> bool {
    SHAPES_BY_FIRST[usize::from(first)] != 0 || matches!(first, b'e' | b'B' | b'b')
}

/// A quick check whether `text` can contain a secret; most cannot. `is_broken` is whether a key may start within a word.
fn is_suspicious(text: &str, is_broken: bool) -> bool {
    // Without ways out of the loop, which lets it take many bytes at a time.
    let (is_assigned, has_dash) = text.bytes().fold((false, false), |(is_assigned, has_dash), byte| {
        (is_assigned | matches!(byte, b'@' | b'=' | b':' | b'>'), has_dash | (byte == b'-'))
    });
    // `--flag`, the start of a PEM block, and `-u user:password`.
    if is_assigned || has_dash && (text.contains("--") || text.contains("-u ")) {
        return true;
    }
    // What is left are keys by their shape: long, and with a word that starts like one or follows an authorization scheme.
    let (mut length, mut can_be_key, mut before) = (0, is_broken, b' ');
    text.bytes().any(|byte| {
        if is_token(byte) || b".+/~".contains(&byte) {
            length += 1;
            can_be_key |= starts_key(byte) && !is_token(before);
        } else {
            let ends_scheme = byte == b' ' && matches!(before, b'r' | b'R' | b'c' | b'C');
            (length, can_be_key) = (0, is_broken || ends_scheme);
        }
        before = byte;
        can_be_key && length >= SHORTEST_CREDENTIALS
    })
}

/// The number of leading bytes of `text` for which `is_part` holds.
fn run(text: &str, is_part: impl Fn(u8) -> bool) -> usize {
    text.bytes().take_while(|byte| is_part(*byte)).count()
}

/// The key at the start of `text`.
fn key(text: &str) -> Option<Found> {
    // Most letters start no prefix.
    let first = text.bytes().next().filter(|first| starts_key(*first))?;
    let is_part = |byte: u8| is_token(byte) || byte == b'.';
    let shapes = SHAPES_BY_FIRST[usize::from(first)];
    for (_, (start, least)) in SHAPES.iter().enumerate().filter(|(shape, _)| shapes >> shape & 1 != 0) {
        if let Some(tail) = text.strip_prefix(start) {
            let near = || tail.bytes().take(DIGIT_WITHIN).take_while(|byte| is_part(*byte));
            if near().count() >= *least && near().any(|byte| byte.is_ascii_digit()) {
                return Some((0, start.len() + run(tail, is_part)));
            }
        }
    }
    // A JSON Web Token: three parts or, if encrypted, five; the first is a JSON object.
    if text.starts_with("eyJ") {
        let length = run(text, is_part);
        let token = text.get(..length).unwrap_or_default();
        if length >= 16 && token.bytes().filter(|byte| *byte == b'.').count() >= 2 {
            return Some((0, length));
        }
    }
    let lower = |name: &str| text.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    let scheme = SCHEMES.into_iter().find(|scheme| lower(scheme))?;
    let length = run(text.get(scheme.len()..)?, |byte| is_token(byte) || b".+/=~".contains(&byte));
    let credentials = text.get(scheme.len()..scheme.len() + length)?;
    // Prose after a prefix is all lower case.
    let is_word = credentials.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    (length >= SHORTEST_CREDENTIALS && !is_word).then_some((scheme.len(), length))
}

/// The kind of secret that a name indicates.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Name {
    Secret,
    Token,
    Key,
    /// An authorization scheme, then a secret.
    Authorization,
    /// The rest of the line.
    Cookie,
    /// `name:password`.
    Login,
}

impl Name {
    /// The kind that `word`, after the byte `before`, indicates.
    fn of(word: &str, before: Option<u8>) -> Option<Self> {
        if matches!(word, "-u" | "--user" | "--proxy-user") {
            return Some(Self::Login);
        }
        let mut letters = [0; MAX_NAME];
        let mut start = MAX_NAME;
        for byte in word.bytes().rev().filter(|byte| !matches!(byte, b'_' | b'-')) {
            let Some(place) = start.checked_sub(1) else { break };
            start = place;
            if let Some(letter) = letters.get_mut(place) {
                *letter = byte.to_ascii_lowercase();
            }
        }
        let name = letters.get(start..)?;
        let ends_with = |known: &[&str]| known.iter().any(|known| name.ends_with(known.as_bytes()));
        let is_parameter = || matches!(before, Some(b'?' | b'&')) && ends_with(&PARAMETERS);
        [
            (Self::Authorization, ends_with(&["authorization"])),
            (Self::Cookie, ends_with(&["cookie"])),
            (Self::Secret, ends_with(&SECRETS) || is_parameter()),
            (Self::Token, ends_with(&TOKENS)),
            (Self::Key, ends_with(&KEYS)),
        ]
        .into_iter()
        .find_map(|(name, is_it)| is_it.then_some(name))
    }

    /// The secret within `value`; `is_sure` when the syntax is not prose.
    fn secret(self, value: &str, is_sure: bool) -> Option<Found> {
        let is_secret = match self {
            Self::Secret => is_sure && !is_placeholder(value) || !is_word(value),
            Self::Token => !is_number(value) && !is_word(value) && (is_sure || is_random(value, SHORTEST_TOKEN)),
            Self::Key => is_random(value, SHORTEST_KEY),
            Self::Authorization => {
                let scheme = value.split(' ').next().unwrap_or_default();
                let is_scheme = HEADER_SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known));
                let start = if is_scheme { (scheme.len() + 1).min(value.len()) } else { 0 };
                let token = value.get(start..)?;
                return (!token.is_empty() && !is_word(token)).then_some((start, token.len()));
            }
            Self::Cookie => value.bytes().take(DIGIT_WITHIN).any(|byte| byte == b'='),
            Self::Login => {
                let (user, password) = value.split_once(':')?;
                return (!password.is_empty() && !is_number(password)).then_some((user.len() + 1, password.len()));
            }
        };
        is_secret.then_some((0, value.len()))
    }
}

/// The secret after a name at the start of `text`, which follows the byte `before`: `name=…`, `name: …`,
/// `"name": "…"`, `<name>…`, `--name …`.
fn named(text: &str, before: Option<u8>) -> Option<Found> {
    let length = run(text, is_token);
    let word = text.get(..length)?;
    // The end of the name: `password"`, `password\"`, `['password']`.
    let closed = length + run(text.get(length..)?, |byte| matches!(byte, b'"' | b'\'' | b'`' | b'\\' | b']'));
    let spaced = closed + run(text.get(closed..)?, is_blank);
    let sign = run(text.get(spaced..)?, |byte| matches!(byte, b'=' | b':' | b'>'));
    let is_flag = word.starts_with('-');
    let start = match sign {
        1 | 2 => spaced + sign,
        0 if is_flag && spaced > closed => spaced,
        _ => return None,
    };
    // Most words have nothing assigned to them, and need no closer look.
    let name = Name::of(word, before)?;
    let is_assigned = text.get(spaced..start).is_some_and(|sign| sign.contains(['=', '>']));
    let start = start + run(text.get(start..)?, is_blank);
    let tail = text.get(start..)?;
    // The start of the value decides whether it is a secret; only then is its full length determined.
    let ((opened, near), is_quoted) = value(tail, name, DIGIT_WITHIN)?;
    let is_sure = is_assigned || is_quoted || is_flag;
    let near = tail.get(opened..opened + near)?;
    // What follows a mask may have been a line of its own, which the value did not reach into.
    if near.strip_prefix(MASK).is_some_and(|rest| rest.is_empty() || rest.starts_with(' ')) {
        return None;
    }
    let (skipped, _) = name.secret(near, is_sure)?;
    let ((opened, length), _) = value(tail, name, usize::MAX)?;
    Some((start + opened + skipped, length.checked_sub(skipped)?))
}

/// The value at the start of `text` for `name`, at most `most` bytes, and whether it is quoted.
fn value(text: &str, name: Name, most: usize) -> Option<(Found, bool)> {
    let run = |text: &str, is_part: &dyn Fn(u8) -> bool| {
        let length = text.bytes().take(most).take_while(|byte| is_part(*byte)).count();
        (0..=length).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default()
    };
    let escape = run(text, &|byte| byte == b'\\');
    let quote = text.as_bytes().get(escape).copied().filter(|byte| matches!(byte, b'"' | b'\'' | b'`'));
    let (start, length) = match quote {
        Some(quote) => (escape + 1, quoted(text.get(escape + 1..)?, quote, escape, most)),
        None => {
            let ends = |byte: u8| matches!(byte, b'\n' | b'"' | b'\'' | b'`' | b'\\');
            let is_part = |byte: u8| !ends(byte) && !byte.is_ascii_whitespace() && !b"&,;)}]<".contains(&byte);
            let length = match name {
                Name::Cookie => run(text, &|byte| !ends(byte)),
                Name::Authorization => {
                    let scheme = HEADER_SCHEMES.into_iter().find(|scheme| {
                        let (word, after) = (text.get(..scheme.len()), text.as_bytes().get(scheme.len()));
                        after == Some(&b' ') && word.is_some_and(|word| word.eq_ignore_ascii_case(scheme))
                    });
                    let first = scheme.map_or(0, |scheme| scheme.len() + 1);
                    first + run(text.get(first..)?, &is_part)
                }
                _ => run(text, &is_part),
            };
            (0, length)
        }
    };
    (length > 0).then_some(((start, length), quote.is_some()))
}

/// The length of `text` before its closing `quote`, which has as many `\` before it as the opening one.
fn quoted(text: &str, quote: u8, escape: usize, most: usize) -> usize {
    let mut slashes = 0;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'\\' => slashes += 1,
            b'\n' => return at,
            byte if byte == quote && (slashes == escape || escape == 0 && slashes % 2 == 0) => {
                return at - slashes.min(escape);
            }
            _ if at >= most && text.is_char_boundary(at) => return at,
            _ => slashes = 0,
        }
    }
    text.len()
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Whether it is a word of prose rather than a value.
fn is_word(value: &str) -> bool {
    let word = value.trim_end_matches(['.', ',', ':', '!', '?']);
    is_placeholder(value) || WORDS.iter().any(|known| word.eq_ignore_ascii_case(known))
}

/// Whether it is a placeholder: `***`, `$PASSWORD`, `${{ secrets.X }}`, `<token>`, `%s`.
fn is_placeholder(value: &str) -> bool {
    let is_masked = value.bytes().all(|byte| matches!(byte, b'*' | b'.'));
    let is_variable = || {
        value
            .strip_prefix('$')
            .is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_uppercase() || b"_{}".contains(&byte)))
    };
    is_masked || value.starts_with(['<', '%', '[', '{']) || value.starts_with("${") || is_variable()
}

fn is_number(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_digit() || b".:-_".contains(&byte))
}

/// Whether it mixes letters and digits as keys do, and has at least `least` bytes.
fn is_random(value: &str, least: usize) -> bool {
    value.len() >= least
        && value.bytes().any(|byte| byte.is_ascii_digit())
        && value.bytes().any(|byte| byte.is_ascii_alphabetic())
        && value.bytes().all(|byte| is_token(byte) || b"+/=.~%!@#$^*".contains(&byte))
}

/// A PEM private key at the start of `text`: everything up to the end, since its lines may be wrapped anywhere.
fn pem(text: &str) -> Option<Found> {
    let tail = text.strip_prefix(PEM)?;
    let is_word = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b' ';
    let words = tail.get(..tail.bytes().take_while(is_word).count())?;
    words.contains(PEM_NAME).then_some((0, text.len()))
}

/// A password in a URL at the start of `text`, `://user:password@`, or a long token in place of both.
fn credentials(text: &str) -> Option<Found> {
    let user = text.strip_prefix("://")?;
    let is_part = |byte: u8| !byte.is_ascii_whitespace() && !b"/?#\"'<>".contains(&byte);
    let authority = user.get(..run(user, is_part))?;
    let (login, _) = authority.rsplit_once('@')?;
    match login.split_once(':') {
        Some((name, password)) => (!password.is_empty()).then_some((3 + name.len() + 1, password.len())),
        None => is_random(login, SHORTEST_KEY).then_some((3, login.len())),
    }
}

const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Example keys of all issuers, assembled here so that secret scanners do not report them.
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
    fn keys_are_masked_anywhere() {
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
    fn named_passwords_are_masked() {
        for (text, expected) in [
            // JSON, also within a quoted string, and as Python prints it.
            (r#"{"password":"hunter2","user":"ann"}"#, r#"{"password":"***","user":"ann"}"#),
            (r#"{"db_password": "a\"b c", "x": 1}"#, r#"{"db_password": "***", "x": 1}"#),
            (r#"{\"clientSecret\": \"hunter2\", \"x\": 1}"#, r#"{\"clientSecret\": \"***\", \"x\": 1}"#),
            (r#"{"password":12345}"#, r#"{"password":***}"#),
            ("{'api_key': 'abc', 'n': 1}", "{'api_key': '***', 'n': 1}"),
            ("cfg['password'] = 'swordfish'", "cfg['password'] = '***'"),
            (r#""authorization": "Bearer abc""#, r#""authorization": "Bearer ***""#),
            ("<password>swordfish</password>", "<password>***</password>"),
            // YAML and properties.
            ("password: hunter2\nuser: ann", "password: ***\nuser: ann"),
            ("db:\n  passwd: swordfish\n", "db:\n  passwd: ***\n"),
            ("spring.datasource.password=x", "spring.datasource.password=***"),
            ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG", "aws_secret_access_key = ***"),
            ("secret: \"two words\"", "secret: \"***\""),
            // Headers.
            ("Authorization: Bearer short1", "Authorization: Bearer ***"),
            ("authorization: token abcdef", "authorization: token ***"),
            ("Authorization: abcdef12", "Authorization: ***"),
            ("curl -H 'X-Api-Key: hunter2' http://x", "curl -H 'X-Api-Key: ***' http://x"),
            ("x-auth-token: abcdef", "x-auth-token: ***"),
            ("Cookie: session=abc; theme=dark\nHost: x", "Cookie: ***\nHost: x"),
            ("Set-Cookie: id=1", "Set-Cookie: ***"),
            // Command-line options.
            ("mysql --password hunter2 shop", "mysql --password *** shop"),
            ("tool --token=abc123 --verbose", "tool --token=*** --verbose"),
            ("tool --api-key 'a b' x", "tool --api-key '***' x"),
            ("curl -u ann:hunter2 http://x", "curl -u ann:*** http://x"),
            // Environment variables.
            ("export OPENAI_API_KEY=abc", "export OPENAI_API_KEY=***"),
            ("DB_PASS=hunter2 ./run", "DB_PASS=*** ./run"),
            ("GITHUB_TOKEN=abcdef env", "GITHUB_TOKEN=*** env"),
            ("STRIPE_KEY=abcdefgh12345678", "STRIPE_KEY=***"),
            // URLs.
            ("https://x.example/cb?code=abc&state=1", "https://x.example/cb?code=***&state=1"),
            ("https://x.example/b?sig=a%2Fb&se=2026", "https://x.example/b?sig=***&se=2026"),
            ("https://x.example/?X-Amz-Signature=abcd", "https://x.example/?X-Amz-Signature=***"),
            ("Server=db;Password=hunter2;User=ann", "Server=db;Password=***;User=ann"),
            ("https://abcdefgh12345678@git.example/x", "https://***@git.example/x"),
            ("amqp://shop:p@ss@mq:5672", "amqp://shop:***@mq:5672"),
        ] {
            assert_eq!(mask(text), expected);
        }
    }

    #[test]
    fn prose_is_not_masked() {
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
            "password: required",
            "the password: incorrect.",
            "Unexpected token: <",
            "unexpected token: colon",
            "max_token: 4096",
            "prompt_tokens=12345 completion_tokens: 20",
            "primary key: user_1",
            "key=value",
            "press any key: then wait",
            "authorization: required",
            "cookie: not found",
            "password=$PASSWORD ./run",
            "token: ${{ secrets.TOKEN }}",
            "tests pass: 12, pass=3",
            "docker run -u 1000:1000 image",
            "error: secrets: none of 3 found",
            "tokens: 12 of 20",
            "10:30:00 tick",
            "std::env::var(PASSWORD)",
            "https://x.example/b?state=1&page=2",
        ] {
            assert_eq!(mask(text), text);
        }
    }

    /// Text with many apparent starts of keys takes linear time too.
    #[test]
    fn apparent_keys_take_linear_time() {
        for almost in [
            "sk-.",
            "eyJ ",
            "eyJ.x ",
            "-----BEGIN ",
            "Bearer x.",
            "password=a ",
            "://a:b",
            "a@b",
            "password ",
            "password=",
            "\"password\\",
            "cookie: ",
            "authorization: bearer ",
            "--token ",
            "token: a ",
            "-u a:",
            "secret:\"",
            "key=\\\\\\",
        ] {
            let text = almost.repeat((1 << 20) / almost.len());
            let masked = mask(&text);
            assert!(masked.len() <= 2 * text.len(), "{almost}");
        }
    }

    proptest! {
        /// The quick check is only a quick check.
        #[test]
        fn what_is_not_suspicious_has_no_secret(
            text in "([a-zA-Z0-9_]{0,14}|sk-|SG\\.|hvs\\.|eyJ|AIza|xoxb-|Bearer |basic |[ ./,;+~-]|é){0,9}",
        ) {
            if !is_suspicious(&text, false) {
                for (at, letter) in text.char_indices().filter(|(_, letter)| letter.is_ascii()) {
                    let before = at.checked_sub(1).and_then(|before| text.as_bytes().get(before)).copied();
                    let starts_word = is_token(letter as u8) && !before.is_some_and(is_token);
                    prop_assert_eq!(secret_at(&text, at, starts_word), None, "{} at {}", text, at);
                }
            }
        }

        #[test]
        fn masking_is_idempotent(text in "(sk-|Bearer |://a:|@|eyJ|password=|[a-z0-9._ \"é-]){0,12}") {
            let once = mask(&text).into_owned();
            prop_assert_eq!(mask(&once), once.as_str());
        }
    }
}
