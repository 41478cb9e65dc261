//! Unit tests of access rules.

use super::super::routes::RouteMatch;
use super::*;
use crate::config::server::{ProxyConfig, TokenConfig};
use crate::secret::Secret;

fn config(tokens: &[(Role, &str)], loopback: Option<Role>) -> Config {
    let tokens = tokens.iter().enumerate().map(|(index, (role, token))| TokenConfig {
        name: format!("t{index}"),
        role: *role,
        token: Some(Secret::new(*token)),
        token_file: None,
    });
    let mut config = Config { allowed_hosts: vec!["lookout".into(), "Port.example.:81".into()], ..Config::default() };
    (config.auth.tokens, config.auth.loopback) = (tokens.collect(), loopback);
    config
}

fn access(address: &str, tokens: &[(Role, &str)], loopback: Option<Role>) -> AccessRules {
    AccessRules::unkept(&config(tokens, loopback), address.parse().expect("address")).expect("access")
}

fn status(access: &AccessRules, method: &str, path: &str, headers: &[(&'static str, &str)]) -> u16 {
    let local = if access.address.ip().is_unspecified() { [10, 0, 0, 1].into() } else { access.address.ip() };
    status_at(access, local, method, path, headers)
}

fn status_at(access: &AccessRules, local: IpAddr, method: &str, uri: &str, headers: &[(&'static str, &str)]) -> u16 {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(()).expect("a request");
    let needs = RouteMatch::of(request.method(), request.uri().path()).requirement;
    access
        .check(&request, needs, RequestEnds { peer: local, local })
        .map_or_else(|error| error.status.as_u16(), |_| 200)
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
    let plain = AccessRules::unkept(&config, address).expect("access");
    config.tls.cert_file = Some("c.pem".into());
    let tls = AccessRules::unkept(&config, address).expect("access");
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
    let twice = [("host", "localhost:9797"), ("origin", "http://localhost:9797"), ("origin", "http://evil.example")];
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
        let token = TokenConfig { name: "f".into(), role: Role::Admin, token: None, token_file: Some(file.clone()) };
        config.auth.tokens.push(token);
        AccessRules::unkept(&config, address).map_err(|error| error.to_string())
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
    for (credentials, expected) in [("Basic Og==", 401), ("Bearer ", 401), ("Bearer good", 200), ("Basic OiA=", 401)] {
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
    AccessRules::unkept(&config, "127.0.0.1:9797".parse().expect("address")).expect("access")
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

/// Access rules at this address and time, with what is configured in addition.
fn access_at(address: &str, clock: &Clock, adjust: impl FnOnce(&mut Config)) -> AccessRules {
    let mut config = config(&[(Role::Read, "r"), (Role::Ingest, "i"), (Role::Admin, "a")], None);
    adjust(&mut config);
    let state = Arc::new(AccessState::in_memory(clock.clone()));
    AccessRules::new(&config, address.parse().expect("address"), &state).expect("access")
}

fn noon() -> Clock {
    Clock::at(crate::model::Time::from_millis(1_796_000_000_000))
}

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 7));

/// The cookie of a new session, `name=value`.
async fn session(access: &AccessRules, token: &str) -> String {
    let cookie = access.sign_in(token, PEER).await.expect("a session");
    cookie.split(';').next().expect("a cookie").to_owned()
}

#[tokio::test]
async fn a_session_has_the_role_of_its_token_until_it_expires() {
    let clock = noon();
    let access = access_at("127.0.0.1:9797", &clock, |_| ());
    let page = [("origin", "http://127.0.0.1:9797"), ("host", "127.0.0.1:9797"), ("x-lookout", "page")];
    for (token, read, ingest, admin) in [("r", 200, 403, 403), ("i", 200, 200, 403), ("a", 200, 200, 200)] {
        let cookie = session(&access, token).await;
        for (method, path, expected) in [
            ("GET", "/api/status", read),
            ("HEAD", "/", read),
            ("GET", "/metrics", read),
            ("POST", "/api/state", ingest),
            ("POST", "/v1/logs", ingest),
            ("POST", "/api/silences", admin),
            ("DELETE", "/api/silences/x", admin),
            ("PATCH", "/agents/x", admin),
            ("POST", "/-/reload", admin),
        ] {
            let is_read = ["GET", "HEAD"].contains(&method);
            let all = [&[("cookie", &*cookie)][..], &page].concat();
            assert_eq!(status(&access, method, path, &all), expected, "{token} {method} {path}");
            // Without our own Origin or the header of the page, only reading is allowed.
            for left_out in ["origin", "x-lookout"] {
                let headers: Vec<_> = all.iter().copied().filter(|(name, _)| *name != left_out).collect();
                let without = if is_read { expected } else { 403 };
                assert_eq!(
                    status(&access, method, path, &headers),
                    without,
                    "{token} {method} {path} without {left_out}"
                );
            }
        }
    }
    let cookie = session(&access, "a").await;
    let headers = [("cookie", &*cookie)];
    clock.advance(sessions::LIFETIME - Duration::from_secs(1));
    assert_eq!(status(&access, "GET", "/api/status", &headers), 200);
    clock.advance(Duration::from_secs(1));
    assert_eq!(status(&access, "GET", "/api/status", &headers), 401);
}

#[tokio::test]
async fn failed_logins_are_limited_by_the_clock() {
    let clock = noon();
    let access = access_at("127.0.0.1:9797", &clock, |_| ());
    for _ in 0..10 {
        assert_eq!(access.sign_in("wrong", PEER).await, Err(SignInError::Unknown));
    }
    assert_eq!(access.sign_in("a", PEER).await, Err(SignInError::TooMany(Duration::from_secs(60))));
    assert!(access.sign_in("a", IpAddr::from([10, 0, 0, 8])).await.is_ok(), "another address");
    clock.advance(Duration::from_secs(60));
    assert!(access.sign_in("a", PEER).await.is_ok());
    for nothing in ["", " ", "\n", "A", "a a"] {
        assert_eq!(access.sign_in(nothing, PEER).await, Err(SignInError::Unknown), "{nothing:?}");
    }
}

#[test]
fn only_a_proxy_names_users() {
    let access = access_at("0.0.0.0:9797", &noon(), |config| {
        config.auth.proxy = Some(ProxyConfig {
            from: vec!["10.0.0.7".to_owned()],
            user_header: "x-user".to_owned(),
            role_header: Some("x-role".to_owned()),
            default_role: None,
        });
    });
    let ask = |peer: [u8; 4], headers: &[(&'static str, &str)], method: &str, path: &str| {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("a request");
        let needs = RouteMatch::of(request.method(), request.uri().path()).requirement;
        let ends = RequestEnds { peer: peer.into(), local: [10, 0, 0, 1].into() };
        access.check(&request, needs, ends).map(|caller| caller.name(None)).map_err(|error| error.status.as_u16())
    };
    let (ann, admin) = (("x-user", "ann"), ("x-role", "admin"));
    let (proxy, stranger) = ([10, 0, 0, 7], [10, 0, 0, 8]);
    assert_eq!(ask(proxy, &[ann, admin], "POST", "/-/reload"), Ok("ann".to_owned()));
    assert_eq!(ask(proxy, &[ann], "GET", "/api/status"), Err(403), "no role");
    assert_eq!(ask(proxy, &[admin], "GET", "/api/status"), Err(401), "no user");
    for peer in [stranger, [127, 0, 0, 1], [10, 0, 0, 1]] {
        assert_eq!(ask(peer, &[ann, admin], "GET", "/api/status"), Err(401), "{peer:?}");
        assert_eq!(ask(peer, &[ann, admin], "POST", "/v1/logs"), Err(401), "{peer:?}");
    }
    // Its token says who a program is.
    let with_token = [ann, admin, ("authorization", "Bearer r")];
    assert_eq!(ask(proxy, &with_token, "POST", "/-/reload"), Err(403));
    assert_eq!(ask(stranger, &with_token, "GET", "/api/status"), Ok("token t0".to_owned()));
}
