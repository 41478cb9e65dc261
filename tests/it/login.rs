//! Access to the page: signing in and out, sessions, users of a proxy, shared links, lookout's own token, base paths.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::http::Response;
use crate::program::{Lookout, PATIENCE, Setup, eventually};
use crate::stream::client::EventSource;
use crate::{Case, trial};

const TOKENS: &str = "tokens: [{name: reader, role: read, token: reads-4711}, {name: sender, role: ingest, token: \
                      ingests-4711}, {name: ops, role: admin, token_file: ops.token}]";
const HTML: (&str, &str) = ("accept", "text/html,application/xhtml+xml");

pub(crate) fn trials() -> Vec<Case> {
    vec![
        trial("login: a token once, then a cookie, until one signs out", &[], sign_in_and_out),
        trial("login: a session survives a restart, and ends with its token", &[], sessions_end_with_their_token),
        trial("login: a session changes something only from the own page", &[], own_page_only),
        trial("login: forged cookies are refused", &[], forged_cookies),
        trial("login: ten failures a minute", &[], flood),
        trial("login: browsers get pages, programs JSON", &[], pages_and_json),
        trial("login: every route by every role", &[], every_route_by_every_role),
        trial("login: a stream ends with its session", &[], streams_end),
        trial("login: a proxy names users, and a stranger does not", &[], proxy),
        trial("login: a shared link shows names and states, and opens nothing else", &[], shared_link),
        trial("login: without any token lookout makes its own", &[], own_token),
        trial("login: a proxy may strip or keep the base path", &[], base_path),
    ]
}

/// Configures `auth` and an admin token in a file.
fn setup(auth: &str, rest: &str) -> Setup {
    let setup = Setup::new(&format!("auth: {{{auth}}}\nreceivers: []\n{rest}"));
    setup.write("ops.token", "ops-4711\n");
    setup
}

fn form(lookout: &Lookout, path: &str, headers: &[(&str, &str)], token: &str, next: &str) -> Response {
    let encode = |text: &str| form_urlencoded(text);
    let body = format!("token={}&next={}", encode(token), encode(next));
    let kind = [("content-type", "application/x-www-form-urlencoded"), HTML];
    lookout.send("POST", path, &[&kind[..], headers].concat(), body.as_bytes())
}

fn form_urlencoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// The cookie of a new session, `name=value`.
fn session(lookout: &Lookout, token: &str) -> String {
    let answer = form(lookout, "/login", &[], token, "");
    assert_eq!(answer.status, 303, "{}", answer.text());
    cookie(&answer)
}

fn cookie(answer: &Response) -> String {
    let cookie = answer.header("set-cookie").expect("a cookie");
    cookie.split(';').next().expect("a value").to_owned()
}

fn with<'h>(cookie: &'h str, more: &[(&'h str, &'h str)]) -> Vec<(&'h str, &'h str)> {
    let mut headers = vec![("cookie", cookie)];
    headers.extend(more);
    headers
}

fn sign_in_and_out() {
    let setup = setup(TOKENS, "");
    let lookout = setup.start();
    let shown = lookout.send("GET", "/login?next=alerts", &[HTML], b"");
    assert_eq!(shown.status, 200);
    assert!(shown.text().contains(r#"name="next" value="alerts""#), "{}", shown.text());
    assert_eq!(shown.header("cache-control"), Some("no-store"));

    let origin = format!("http://{}", lookout.address());
    let answer = form(&lookout, "/login", &[("origin", &origin)], " ops-4711\n", "alert?id=0123456789abcdef");
    assert_eq!((answer.status, answer.header("location")), (303, Some("./alert?id=0123456789abcdef")));
    let set = answer.header("set-cookie").expect("a cookie").to_owned();
    for part in ["HttpOnly", "SameSite=Strict", "Max-Age=43200"] {
        assert!(set.contains(part), "{set}");
    }
    // Without a path a browser takes the folder of what it asked for, which is the base.
    assert!(!set.contains("Secure") && !set.contains("Path") && !set.contains("ops"), "{set}");
    let cookie = cookie(&answer);
    let page = lookout.send("GET", "/", &with(&cookie, &[HTML]), b"");
    assert_eq!(page.status, 200);
    let text = page.text().replace("&#x2f;", "/");
    assert!(
        text.contains(">ops</span>") && text.contains(r#"action="./logout""#) && text.contains("data-admin"),
        "{text}"
    );
    let reader = session(&lookout, "reads-4711");
    let page = lookout.send("GET", "/", &with(&reader, &[HTML]), b"");
    assert!(!page.text().contains("data-admin"), "{}", page.text());
    assert_eq!(lookout.send("GET", "/login", &with(&cookie, &[HTML]), b"").status, 303, "signed in already");
    // A token is a program, and does not sign out.
    let page = lookout.send("GET", "/", &[("authorization", "Bearer ops-4711"), HTML], b"");
    assert!(page.status == 200 && !page.text().contains("logout"), "{}", page.text());

    let out = lookout.send("POST", "/logout", &with(&cookie, &[HTML, ("origin", &origin)]), b"");
    assert_eq!((out.status, out.header("location")), (303, Some("./login")));
    assert!(out.header("set-cookie").is_some_and(|set| set.contains("Max-Age=0")), "{out:?}");
    assert_eq!(
        lookout.send("GET", "/", &with(&cookie, &[]), b"").status,
        401,
        "the session has ended, wherever its cookie is"
    );
    assert_eq!(lookout.send("GET", "/", &with(&reader, &[]), b"").status, 200, "another one goes on");
    assert!(!lookout.log().contains("4711"), "no secret in the log:\n{}", lookout.log());

    // No way to another site, also in the place that one returns to.
    for next in
        ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "a\r\nset-cookie: b=c"]
    {
        let answer = form(&lookout, "/login", &[], "ops-4711", next);
        assert_eq!((answer.status, answer.header("location")), (303, Some("./")), "{next}");
    }
    let secure = self::setup(TOKENS, "external_url: https://lookout.example.com\n");
    let lookout = secure.start();
    let set = form(&lookout, "/login", &[], "ops-4711", "").header("set-cookie").expect("a cookie").to_owned();
    assert!(set.ends_with("; Secure"), "{set}");
}

fn sessions_end_with_their_token() {
    let setup = setup(TOKENS, "");
    let lookout = setup.start();
    let (ops, reader) = (session(&lookout, "ops-4711"), session(&lookout, "reads-4711"));
    let mode = std::fs::metadata(setup.path().join("lookout.session.key")).expect("the key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(lookout.sigterm().success());
    let lookout = setup.start();
    let status = |cookie: &str| lookout.send("GET", "/api/status", &with(cookie, &[]), b"").status;
    assert_eq!((status(&ops), status(&reader)), (200, 200));
    setup.write("ops.token", "other-4711");
    eventually("the session of a changed token ends", || (status(&ops) == 401).then_some(()));
    assert_eq!(status(&reader), 200);
    setup.write("ops.token", "ops-4711");
    eventually("the token is back", || (status(&ops) == 200).then_some(()));
    // A reload with another role, and then without the token.
    for (tokens, expected) in [
        ("{name: reader, role: admin, token: reads-4711}", (401, 200, true)),
        ("{name: other, role: read, token: reads-4711}", (401, 401, false)),
        ("{name: reader, role: read, token: changed-4711}", (401, 401, false)),
    ] {
        setup.write(
            "lookout.yaml",
            &format!(
                "listen: 127.0.0.1:0\nlog: {{format: json, level: info}}\nauth: {{tokens: [{tokens}]}}\nreceivers: []\n"
            ),
        );
        lookout.signal("HUP");
        eventually("the reload", || ((status(&ops), status(&reader)) == (expected.0, expected.1)).then_some(()));
        let page = lookout.send("GET", "/", &with(&reader, &[HTML]), b"");
        assert_eq!(page.text().contains("data-admin"), expected.2, "{tokens}");
    }
}

fn own_page_only() {
    let setup = setup(TOKENS, "");
    let lookout = setup.start();
    let cookie = session(&lookout, "ops-4711");
    let address = lookout.address();
    let (own, foreign, port) =
        (format!("http://{address}"), "http://evil.example", format!("http://127.0.0.1:{}", address.port() - 1));
    let (origin, page) = (("origin", &*own), ("x-lookout", "page"));
    let silence = json!({"matchers": {"rule": "AgentIdle"}, "duration": "1h", "comment": "c"}).to_string();
    let json = ("content-type", "application/json");
    for (headers, expected) in [
        (&[origin, page][..], 200),
        (&[origin], 403),
        (&[page], 403),
        (&[], 403),
        (&[("origin", foreign), page], 403),
        (&[("origin", &*port), page], 403),
        (&[("origin", "null"), page], 403),
        (&[origin, page, ("sec-fetch-site", "cross-site")], 403),
        (&[origin, page, ("sec-fetch-site", "same-site")], 403),
        (&[origin, page, ("host", "evil.example")], 403),
        // A token is enough, with or without a cookie.
        (&[("authorization", "Bearer ops-4711")], 200),
    ] {
        let headers = with(&cookie, &[&[json], headers].concat());
        let answer = lookout.send("POST", "/api/silences", &headers, silence.as_bytes());
        assert_eq!(answer.status, expected, "{headers:?}: {}", answer.text());
    }
    let made = lookout.send("GET", "/api/silences", &with(&cookie, &[]), b"").json();
    assert_eq!(made["total"], 2, "{made}");
    assert!(
        made["silences"].as_array().expect("silences").iter().all(|silence| silence["created_by"] == "token ops"),
        "{made}"
    );
    // Another site can neither sign one in nor out.
    for path in ["/login", "/logout"] {
        for headers in [&[("origin", foreign)][..], &[("origin", "null")], &[("sec-fetch-site", "cross-site")]] {
            let answer = form(&lookout, path, &with(&cookie, headers), "ops-4711", "");
            assert_eq!((answer.status, answer.header("set-cookie")), (403, None), "{path} {headers:?}");
        }
    }
    assert_eq!(lookout.send("GET", "/", &with(&cookie, &[]), b"").status, 200, "still signed in");
}

fn forged_cookies() {
    let setup = setup(TOKENS, "");
    let lookout = setup.start();
    let good = session(&lookout, "reads-4711");
    let (name, value) = good.split_once('=').expect("a cookie");
    let status =
        |value: &str| lookout.send("GET", "/api/status", &[("cookie", &*format!("{name}={value}"))], b"").status;
    assert_eq!(status(value), 200);
    let flipped = |at: usize| {
        let mut bytes = value.as_bytes().to_vec();
        bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
        String::from_utf8(bytes).expect("text")
    };
    let is_flippable = |at: &usize| !matches!(value.as_bytes()[*at], b'.');
    for at in (0..value.len()).filter(is_flippable) {
        assert_eq!(status(&flipped(at)), 401, "{at}");
    }
    let (expires, rest) = value.split_once('.').expect("parts");
    let later = expires.parse::<i64>().expect("a time") + 3600;
    for forged in [
        &format!("{later}.{rest}"),
        &format!("0.{rest}"),
        &format!("{value}0"),
        &format!(" {value}.{value}"),
        rest,
        "reads-4711",
        "",
        "..",
        &"9".repeat(5_000),
    ] {
        assert_eq!(status(forged), 401, "{forged}");
    }
    // Another sidecar with the same tokens has another key.
    let other = self::setup(TOKENS, "");
    let other = other.start();
    let theirs = session(&other, "reads-4711");
    let (their_name, their_value) = theirs.split_once('=').expect("a cookie");
    assert_ne!(name, their_name, "two sidecars of one host do not sign each other out");
    assert_eq!(status(their_value), 401);
    // A good one among bad ones, as of a sidecar below another path of the same host.
    let both = format!("{name}={}; theme=dark; {name}={value}", flipped(3));
    assert_eq!(lookout.send("GET", "/api/status", &[("cookie", &*both)], b"").status, 200);
    // A token is not a cookie, and a cookie is not a token.
    let bearer = format!("Bearer {value}");
    assert_eq!(lookout.send("GET", "/api/status", &[("authorization", &*bearer)], b"").status, 401);
}

fn flood() {
    let setup = setup(TOKENS, "");
    let lookout = setup.start();
    let attempts: Vec<u16> = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..30)
            .map(|number| {
                scope.spawn({
                    let lookout = &lookout;
                    move || form(lookout, "/login", &[], &format!("guess{number}"), "").status
                })
            })
            .collect();
        tries.into_iter().map(|one| one.join().expect("an answer")).collect()
    });
    let count = |status: u16| attempts.iter().filter(|one| **one == status).count();
    assert_eq!((count(401), count(429)), (10, 20), "{attempts:?}");
    let refused = form(&lookout, "/login", &[], "ops-4711", "");
    assert_eq!(refused.status, 429, "not even with a token");
    assert_eq!(refused.header("set-cookie"), None);
    let wait: u64 = refused.header("retry-after").expect("a time").parse().expect("seconds");
    assert!((1..=60).contains(&wait), "{wait}");
    assert!(refused.text().contains("Too many failed sign-ins"), "{}", refused.text());
    let program = [("authorization", "Bearer ops-4711")];
    assert_eq!(lookout.send("GET", "/api/status", &program, b"").status, 200, "programs are not affected");
    assert_eq!(lookout.wait_for_log(&["failed sign-in"]).matches("failed sign-in").count(), 10);
    assert!(!lookout.log().contains("guess"), "what was tried may be a mistyped token");
    let large = format!("token={}", "a".repeat(20_000));
    let kind = ("content-type", "application/x-www-form-urlencoded");
    assert_eq!(lookout.send("POST", "/login", &[kind], large.as_bytes()).status / 100, 4);
    assert_eq!(lookout.send("POST", "/login", &[("content-type", "application/json")], b"{}").status, 415);
}

fn pages_and_json() {
    let setup = setup(TOKENS, "");
    let lookout = setup.start();
    for (path, root, next) in [
        ("/", "./", ""),
        ("/alerts?x=1", "./", "alerts?x=1"),
        ("/agent?project=a%26b&agent=c", "./", "agent?project=a%26b&amp;agent=c"),
        ("/api/alerts", "../", "api/alerts"),
        ("/agents/shop/ann", "../../", "agents/shop/ann"),
    ] {
        let page = lookout.send("GET", path, &[HTML], b"");
        let text = page.text().replace("&#x2f;", "/");
        assert_eq!(page.status, 401, "{path}");
        assert!(text.contains(&format!(r#"action="{root}login""#)), "{path}: {text}");
        assert!(text.contains(&format!(r#"name="next" value="{next}""#)), "{path}: {text}");
        let style = format!(r#"href="{}assets/style-"#, root.trim_start_matches("./"));
        assert!(text.contains(&style), "{path}: {text}");
        // A browser that comes from another site sent no cookie; from our own page it does.
        assert!(text.contains("http-equiv=\"refresh\" content=\"0; url="), "{path}: {text}");
        let typed = lookout.send("GET", path, &[HTML, ("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")], b"");
        assert!(typed.status == 401 && !typed.text().contains("content=\"0; url="), "{}", typed.text());
        assert_eq!(page.header("www-authenticate"), Some("Bearer realm=\"lookout\""), "no dialog of the browser");
        let policy = page.header("content-security-policy").expect("a policy");
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
    }
    let program = lookout.get("/alerts");
    assert_eq!(program.status, 401);
    assert!(program.json()["error"].as_str().is_some_and(|error| error.contains("Bearer")), "{}", program.text());
    assert!(program.header("www-authenticate").is_some_and(|schemes| schemes.contains("Basic")));
    for browser in
        [("x-lookout", "page"), ("accept", "text/event-stream"), ("cookie", "a=b"), ("sec-fetch-mode", "cors")]
    {
        let answer = lookout.send("GET", "/api/status", &[browser], b"");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"lookout\""), "{browser:?}");
    }
    let reader = ("authorization", "Bearer reads-4711");
    let json = lookout.send("POST", "/-/reload", &[reader], b"");
    assert_eq!((json.status, json.json()["error"].as_str()), (403, Some("Unauthorized")));
    assert!(json.json()["reason"].as_str().is_some_and(|reason| reason.contains("role")), "{}", json.text());
    let page = lookout.send("POST", "/-/reload", &[reader, HTML], b"");
    assert!(page.status == 403 && page.text().contains("does not permit"), "{}", page.text());
    assert!(page.header("content-type").is_some_and(|kind| kind.starts_with("text/html")));
    let foreign = lookout.send("GET", "/alerts", &[HTML, ("origin", "http://evil.example")], b"");
    assert!(foreign.status == 403 && foreign.text().contains("cross-origin"), "{}", foreign.text());
}

/// A caller: what it is called, its headers, and its role.
type Caller<'a> = (&'a str, Vec<(&'a str, &'a str)>, Option<&'a str>);

fn every_route_by_every_role() {
    const ROLES: [&str; 3] = ["read", "ingest", "admin"];
    let proxy = "proxy: {from: [127.0.0.1], user_header: x-user, role_header: x-role}";
    let share = "share: [{name: wall, token: shares-4711}]";
    let trusting = setup(&format!("{TOKENS}, {proxy}, {share}"), "");
    let strange = setup(&format!("{TOKENS}, {}", proxy.replace("127.0.0.1", "127.0.0.2")), "");
    let (trusting, strange) = (trusting.start(), strange.start());
    let admin = [("authorization", "Bearer ops-4711")];
    let document = trusting.send("GET", "/api/openapi.json", &admin, b"").json();
    let mut routes = Vec::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        let real =
            path.replace("{fingerprint}", "0123456789abcdef").replace("{id}", "unknown").replace("{name}", "none");
        for (method, operation) in operations.as_object().expect("operations") {
            let needed = operation["security"][0]["bearer"][0].as_str().map(ToOwned::to_owned);
            routes.push((method.to_uppercase(), real.clone(), needed));
        }
    }
    for page in ["/", "/alerts", "/alert", "/agent", "/runs", "/run", "/compare", "/setup", "/no/such/page"] {
        routes.push(("GET".to_owned(), page.to_owned(), Some("read".to_owned())));
    }
    routes.push(("PUT".to_owned(), "/no/such/page".to_owned(), Some("admin".to_owned())));
    assert!(routes.len() > 50, "{routes:?}");
    let origins = [&trusting, &strange].map(|lookout| format!("http://{}", lookout.address()));
    let cookies = ["reads-4711", "ingests-4711", "ops-4711"].map(|token| session(&trusting, token));
    let others = session(&strange, "ops-4711");
    let page = [("origin", &*origins[0]), ("x-lookout", "page")];
    let mut callers: Vec<Caller<'_>> = vec![
        ("no token", vec![], None),
        ("unknown token", vec![("authorization", "Bearer wrong-4711")], None),
        ("share token as a bearer", vec![("authorization", "Bearer shares-4711")], None),
        ("cookie of another sidecar", with(&others, &page), None),
        ("token read", vec![("authorization", "Bearer reads-4711")], Some("read")),
        ("token ingest", vec![("authorization", "Bearer ingests-4711")], Some("ingest")),
        ("token admin", admin.to_vec(), Some("admin")),
        ("proxy user read", vec![("x-user", "ann"), ("x-role", "read")], Some("read")),
        ("proxy user ingest", vec![("x-user", "ann"), ("x-role", "ingest")], Some("ingest")),
        ("proxy user admin", vec![("x-user", "ann"), ("x-role", "admin")], Some("admin")),
        ("proxy user without a role", vec![("x-user", "ann"), ("x-role", "guest")], Some("")),
        ("proxy role without a user", vec![("x-role", "admin")], None),
    ];
    for (cookie, role) in cookies.iter().zip(ROLES) {
        callers.push((
            ["session read", "session ingest", "session admin"][ROLES.iter().position(|one| *one == role).unwrap()],
            with(cookie, &page),
            Some(role),
        ));
    }
    let rank = |role: &str| ROLES.iter().position(|one| *one == role);
    let mut table = Vec::new();
    for (caller, headers, role) in &callers {
        let mut counts = [0; 3];
        for (method, path, needed) in &routes {
            let sent = if path.ends_with("/stream") { "HEAD" } else { method };
            let headers = [&[("content-type", "application/json")][..], headers].concat();
            let status = trusting.send(sent, path, &headers, if method == "POST" { b"{}" } else { b"" }).status;
            let expected = match (needed, role) {
                (None, _) => 200,
                (Some(_), None) => 401,
                (Some(needed), Some(role)) if rank(role) < rank(needed) => 403,
                _ => 200,
            };
            let allowed = ![401, 403, 405].contains(&status) || path == "/no/such/page" && status == 404;
            assert_eq!(if allowed { 200 } else { status }, expected, "{caller}: {method} {path}: {status}");
            counts[match expected {
                200 => 0,
                401 => 1,
                _ => 2,
            }] += 1;
        }
        table.push(format!("{caller}: {} answered, {} × 401, {} × 403", counts[0], counts[1], counts[2]));
    }
    // Of a session without the header of the page only reading is allowed; a shared link opens no route but its page.
    for (method, path, needed) in &routes {
        let sent = if path.ends_with("/stream") { "HEAD" } else { method };
        let json = ("content-type", "application/json");
        let body: &[u8] = if method == "POST" { b"{}" } else { b"" };
        let bare = trusting.send(sent, path, &with(&cookies[2], &[json]), body).status;
        let is_open = needed.is_none() || ["GET", "HEAD"].contains(&&**method);
        assert_eq!(bare != 403, is_open, "session without the page's header: {method} {path}: {bare}");
        let linked = format!("{path}?share=shares-4711");
        let by_link = trusting.send(sent, &linked, &[json], body).status;
        let expected = if needed.is_none() || path == "/" { 200 } else { 401 };
        assert_eq!(by_link, expected, "{method} {linked}");
        // A stranger's headers are worth nothing.
        let named = [json, ("x-user", "ann"), ("x-role", "admin"), ("x-forwarded-for", "127.0.0.2")];
        let by_name = strange.send(sent, path, &named, body).status;
        assert_eq!(by_name == 401, needed.is_some(), "stranger: {method} {path}: {by_name}");
    }
    println!("login: {} routes\nlogin: {}", routes.len(), table.join("\nlogin: "));
    assert_eq!(strange.log().matches("is not in auth.proxy.from is ignored").count(), 1, "logged once");
}

fn streams_end() {
    let setup = setup(TOKENS, "");
    let lookout = setup.start();
    let (kept, out, revoked) =
        (session(&lookout, "reads-4711"), session(&lookout, "reads-4711"), session(&lookout, "ops-4711"));
    let open = |cookie: &str| {
        EventSource::open(lookout.address(), "/api/monitoring/stream", &[("cookie", cookie)]).expect("a stream")
    };
    let (mut kept_stream, mut out_stream, mut revoked_stream) = (open(&kept), open(&out), open(&revoked));
    let origin = format!("http://{}", lookout.address());
    lookout.send("POST", "/logout", &with(&out, &[("origin", &origin)]), b"");
    setup.write("ops.token", "other-4711");
    // While there is always something to send, too.
    let push = |number: usize| {
        let headers = [("authorization", "Bearer ingests-4711"), ("content-type", "application/json")];
        let body = json!({"agents": [{"name": "ann", "status": "running", "restart_count": number}]}).to_string();
        assert_eq!(lookout.send("POST", "/api/state", &headers, body.as_bytes()).status, 200);
    };
    let mut number = 0;
    eventually("both streams end", || {
        number += 1;
        push(number);
        let soon = std::time::Duration::from_millis(5);
        (out_stream.ends(soon) & revoked_stream.ends(soon)).then_some(())
    });
    push(0);
    assert!(kept_stream.next(PATIENCE).is_some(), "the other goes on");
}

fn proxy() {
    let auth = |from: &str| {
        format!("proxy: {{from: ['{from}'], user_header: X-Forwarded-User, role_header: x-role, default_role: read}}")
    };
    let trusting = setup(&auth("127.0.0.0/8"), "");
    let lookout = trusting.start();
    let user = ("x-forwarded-user", "ann@example.com");
    // A proxy on the same machine: being local gives no rights.
    assert_eq!(lookout.get("/api/status").status, 401);
    let page = lookout.send("GET", "/", &[user, HTML], b"");
    let text = page.text();
    assert!(page.status == 200 && text.contains(">ann@example.com</span>"), "{text}");
    assert!(!text.contains("logout") && !text.contains("data-admin"), "{text}");
    let silence = json!({"matchers": {"rule": "AgentIdle"}, "duration": "1h", "comment": "c"}).to_string();
    let send = |headers: &[(&str, &str)]| {
        let headers = [&[("content-type", "application/json"), user], headers].concat();
        lookout.send("POST", "/api/silences", &headers, silence.as_bytes())
    };
    assert_eq!(send(&[]).status, 403);
    let made = send(&[("x-role", "staff, admin")]);
    assert_eq!((made.status, made.json()["created_by"].as_str()), (200, Some("ann@example.com")), "{}", made.text());
    for twice in [&[("x-role", "read"), ("x-role", "admin")][..], &[("x-forwarded-user", "bob"), ("x-role", "admin")]] {
        let answer = send(twice);
        assert!(answer.status == 403 && answer.text().contains("more than once"), "{twice:?}: {}", answer.text());
    }
    let foreign = [("x-role", "admin"), ("origin", "http://evil.example")];
    assert_eq!(send(&foreign).status, 403, "another site's page in the browser of a user");
    assert_eq!(lookout.get("/metrics").status, 401, "on loopback metrics need a role, too");
    assert!(!setup_has_own_token(&trusting), "no token is made");

    let strange = setup(&auth("192.0.2.1"), "");
    let lookout = strange.start();
    for headers in [
        &[user, ("x-role", "admin")][..],
        &[user, ("x-role", "admin"), ("x-forwarded-for", "192.0.2.1"), ("x-real-ip", "192.0.2.1")],
        &[user, ("x-role", "admin"), ("forwarded", "for=192.0.2.1;by=192.0.2.1")],
    ] {
        assert_eq!(lookout.send("GET", "/api/status", headers, b"").status, 401, "{headers:?}");
        assert_eq!(lookout.send("POST", "/-/reload", headers, b"").status, 401, "{headers:?}");
    }
    assert_eq!(
        lookout.wait_for_log(&["is not in auth.proxy.from is ignored"]).matches("is not in auth.proxy.from").count(),
        1
    );
}

fn setup_has_own_token(setup: &Setup) -> bool {
    setup.path().join("lookout.token").exists()
}

fn shared_link() {
    let setup = setup(&format!("{TOKENS}, share: [{{name: office, token_file: office.share}}]"), "");
    setup.write("office.share", "office-4711\n");
    let lookout = setup.start();
    let admin = ("authorization", "Bearer ops-4711");
    let push = json!({"project": "shop", "agents": [
        {"name": "failing_fay", "status": "failed", "reason": "sekret-reason", "task_id": "sekret-task", "type": "sekret-type",
         "model": "sekret-model", "phase": "sekret-phase", "host": "sekret-host", "current_action": "sekret-action"},
        {"name": "working_<b>wil", "status": "running", "task_id": "sekret-task", "phase": "sekret-phase"}],
        "components": [{"name": "sekret-component", "status": "ERROR", "details": "sekret-details"}]});
    let sent =
        lookout.send("POST", "/api/state", &[admin, ("content-type", "application/json")], push.to_string().as_bytes());
    assert_eq!(sent.status, 200, "{}", sent.text());
    let usage = json!({"project": "shop", "usage": [{"agent": "failing_fay", "input": 987_654, "cost_usd": 43.21}]});
    lookout.send("POST", "/api/usage", &[admin, ("content-type", "application/json")], usage.to_string().as_bytes());
    eventually("an alert", || {
        let alerts = lookout.send("GET", "/api/alerts?rule=AgentDown", &[admin], b"").json();
        (alerts["total"] == 1).then_some(())
    });
    // Also for programs, and with parameters by which reasons could be guessed.
    let mut bodies = Vec::new();
    for (path, headers) in [
        ("/?share=office-4711", &[HTML][..]),
        ("/?share=office-4711", &[]),
        ("/?share=office-4711&q=sekret-reason&project=none&state=working&type=none", &[HTML]),
        ("/?share=office-4711", &[HTML, admin]),
    ] {
        let page = lookout.send("GET", path, headers, b"");
        assert_eq!(page.status, 200, "{path}");
        let text = page.text().to_owned();
        for secret in ["sekret", "987", "43.21", "AgentDown", "office", "4711", "<b>", "ComponentStatus"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
        for markup in ["<script", "<form", "<button", "data-alert", "href=\"agent?", "href=\"alerts", "logout"] {
            assert!(!text.contains(markup), "{markup}: {text}");
        }
        assert!(
            text.contains("failing_fay") && text.contains("working_&lt;b&gt;wil") && text.contains("1 failed"),
            "{text}"
        );
        assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(page.header("set-cookie"), None);
        bodies.push(
            text.split("as of").last().and_then(|rest| rest.split_once("</header>")).expect("a page").1.to_owned(),
        );
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]), "each visitor sees the same");
    let link = [("cookie", "share=office-4711"), ("referer", "http://localhost/?share=office-4711")];
    for path in
        ["/", "/api/status", "/metrics", "/alerts", "/agent?project=shop&agent=failing_fay", "/api/openapi.json"]
    {
        let separator = if path.contains('?') { '&' } else { '?' };
        if path != "/" {
            assert_eq!(lookout.get(&format!("{path}{separator}share=office-4711")).status, 401, "{path}");
        }
        assert_eq!(lookout.send("GET", path, &link, b"").status, 401, "{path}");
    }
    assert_eq!(
        EventSource::open(lookout.address(), "/api/monitoring/stream?share=office-4711", &[])
            .err()
            .map(|answer| answer.status),
        Some(401)
    );
    assert_eq!(form(&lookout, "/login", &[], "office-4711", "").status, 401, "it is no token");
    for unknown in ["office-4712", "", "ops-4711", "reads-4711", "office-4711%20"] {
        let answer = lookout.send("GET", &format!("/?share={unknown}"), &[HTML], b"");
        assert!(answer.status == 403 && !answer.text().contains("failing_fay"), "{unknown}: {}", answer.status);
    }
    assert_eq!(lookout.send("POST", "/?share=office-4711", &[], b"").status, 401);
    setup.write("office.share", "renewed-4711");
    eventually("a changed link", || (lookout.get("/?share=renewed-4711").status == 200).then_some(()));
    assert_eq!(lookout.get("/?share=office-4711").status, 403);
    let guesses: Vec<u16> = (0..12).map(|number| lookout.get(&format!("/?share=guess{number}")).status).collect();
    assert!(guesses.contains(&429), "{guesses:?}");
}

fn own_token() {
    let world = "listen: 0.0.0.0:0\nlog: {format: json, level: debug}\nreceivers: []\n";
    let setup = Setup::new("");
    setup.write("lookout.yaml", world);
    let print = |arguments: &[&str]| {
        setup.command(&[&["token", "--config", "lookout.yaml"], arguments].concat()).output().expect("the program")
    };
    let early = print(&[]);
    assert!(!early.status.success() && String::from_utf8_lossy(&early.stderr).contains("no token yet"), "{early:?}");
    let lookout = setup.start();
    let file = setup.path().join("lookout.token");
    assert_eq!(std::fs::metadata(&file).expect("the token").permissions().mode() & 0o777, 0o600);
    let printed = print(&[]);
    assert!(printed.status.success(), "{printed:?}");
    let token = String::from_utf8(printed.stdout).expect("text").trim().to_owned();
    assert!(token.len() >= 32, "{token}");
    let log = lookout.wait_for_log(&["which `lookout token` prints"]);
    assert!(!log.contains(&token), "never logged");

    let page = lookout.send("GET", "/", &[HTML], b"");
    assert!(page.status == 401 && page.text().contains("lookout token"), "{}", page.text());
    let metrics = lookout.get("/metrics");
    assert_eq!(metrics.status, 200, "metrics are scraped without a token until one is configured");
    for path in ["/api/status", "/api/alerts", "/api/monitoring/stream"] {
        assert_eq!(lookout.get(path).status, 401, "{path}");
    }
    assert_eq!(lookout.post("/api/state", &json!({"agents": [{"name": "ann"}]})).status, 401);
    let bearer = format!("Bearer {token}");
    let program = [("authorization", &*bearer), ("content-type", "application/json")];
    assert_eq!(lookout.send("POST", "/api/state", &program, br#"{"agents": [{"name": "ann"}]}"#).status, 200);
    let cookie = session(&lookout, &token);
    let page = lookout.send("GET", "/", &with(&cookie, &[HTML]), b"");
    assert!(page.text().contains("data-admin") && page.text().contains(">admin</span>"), "{}", page.text());

    // Kept by a restart, replaced on request.
    assert!(lookout.sigterm().success());
    let lookout = setup.start();
    assert_eq!(lookout.send("GET", "/api/status", &with(&cookie, &[]), b"").status, 200);
    let renewed = print(&["--new"]);
    let renewed = String::from_utf8(renewed.stdout).expect("text").trim().to_owned();
    assert_ne!(renewed, token);
    eventually("the session of the last token ends", || {
        (lookout.send("GET", "/api/status", &with(&cookie, &[]), b"").status == 401).then_some(())
    });
    assert_eq!(lookout.send("GET", "/api/status", &program, b"").status, 401);
    session(&lookout, &renewed);
    drop(lookout);

    // Whatever else is configured, there is no such token, and one that is there is not valid.
    for (config, status) in [
        (format!("{world}auth: {{tokens: [{{name: a, role: read, token: mine-4711}}]}}\n"), 401),
        (format!("{world}auth: {{loopback: read}}\n"), 403),
        (format!("{world}auth: {{proxy: {{from: [192.0.2.1], user_header: x-user, default_role: read}}}}\n"), 401),
        (world.replace("0.0.0.0", "127.0.0.1"), 200),
    ] {
        setup.write("lookout.yaml", &config);
        let lookout = setup.start();
        let bearer = format!("Bearer {renewed}");
        assert_eq!(lookout.send("GET", "/api/status", &[("authorization", &bearer)], b"").status, status, "{config}");
        assert!(!print(&[]).status.success(), "{config}");
    }
    let memory = Setup::new("");
    memory.write("lookout.yaml", &format!("{world}store: {{path: null}}\n"));
    let lookout = memory.start();
    assert_eq!((lookout.get("/api/status").status, setup_has_own_token(&memory)), (403, false));
}

fn base_path() {
    let external = "external_url: https://lookout.example.com/ops/watch/\n";
    let setup = setup(TOKENS, external);
    let lookout = setup.start();
    let host = ("host", "lookout.example.com");
    let origin = ("origin", "https://lookout.example.com");
    let send = |method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]| {
        let headers = [&[host], headers].concat();
        lookout.send(method, path, &headers, body)
    };
    // A proxy that keeps the path, one that strips it, and a request without a proxy.
    for base in ["/ops/watch", ""] {
        let page = send("GET", &format!("{base}/alerts?x=1"), &[HTML], b"");
        let text = page.text().replace("&#x2f;", "/");
        assert!(page.status == 401 && text.contains(r#"action="./login""#), "{base}: {text}");
        assert!(text.contains(r#"name="next" value="alerts?x=1""#), "{base}: {text}");
        let absolute: Vec<&str> =
            ["href=\"/", "src=\"/", "action=\"/"].into_iter().filter(|link| text.contains(*link)).collect();
        assert!(absolute.is_empty(), "{absolute:?}: {text}");
        let answer = form(&lookout, &format!("{base}/login"), &[host, origin], "ops-4711", "alerts?x=1");
        assert_eq!((answer.status, answer.header("location")), (303, Some("./alerts?x=1")), "{base}");
        let set = answer.header("set-cookie").expect("a cookie");
        assert!(!set.contains("Path") && set.contains("Secure"), "{set}");
        let cookie = cookie(&answer);
        for path in ["/", "/alerts", "/api/status", "/setup"] {
            assert_eq!(send("GET", &format!("{base}{path}"), &with(&cookie, &[HTML]), b"").status, 200, "{base}{path}");
        }
        let changed = with(&cookie, &[origin, ("x-lookout", "page")]);
        assert_eq!(send("POST", &format!("{base}/api/monitoring/start"), &changed, b"").status, 200);
        assert_eq!(send("GET", &format!("{base}/icon.svg"), &[], b"").status, 200);
        assert_eq!(send("GET", &format!("{base}/-/healthy"), &[], b"").status, 200);
        assert_eq!(send("GET", &format!("{base}/metrics"), &[], b"").status, 401, "it needs what it needs otherwise");
        let push = [("authorization", "Bearer ingests-4711"), ("content-type", "application/json")];
        assert_eq!(send("POST", &format!("{base}/api/state"), &push, b"{\"agents\": []}").status, 200);
    }
    let folder = send("GET", "/ops/watch?q=a", &[HTML], b"");
    assert_eq!((folder.status, folder.header("location")), (308, Some("watch/?q=a")));
    let admin = ("authorization", "Bearer ops-4711");
    for other in ["/ops/watchers", "/ops", "/ops/watch/ops/watch/alerts", "/watch/alerts", "/ops/watch//alerts"] {
        assert_eq!(send("GET", other, &[admin], b"").status, 404, "{other}");
    }
    let listed: Value = send("GET", "/ops/watch/", &[admin], b"").json();
    assert_eq!(listed["name"], "lookout");
}
