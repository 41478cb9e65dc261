//! Who may see and do what, in a browser: signing in and out, roles, shared links, users of a proxy.

use serde_json::{Value, json};

use super::axe;
use super::connection::NEEDS_NGINX;
use super::driver::{Browser, NEEDS, in_browser};
use super::{Kept, open_live, start};
use crate::Case;
use crate::nginx::Nginx;
use crate::program::{Lookout, eventually};

const TOKENS: &str = "auth: {tokens: [{name: reader, role: read, token: reads-4711}, {name: sender, role: ingest, token: \
                      ingests-4711}, {name: ops, role: admin, token: ops-4711}]}\n";
const ENTER: char = '\u{e007}';

pub(crate) fn trials() -> Vec<Case> {
    vec![
        in_browser("browser: signing in leads back to the link, and out ends it", NEEDS, sign_in_and_out),
        in_browser("browser: one who reads or reports has no buttons", NEEDS, roles),
        in_browser("browser: a shared link shows names and states, and leads nowhere", NEEDS, shared_link),
        in_browser("browser: the page below a path that the proxy keeps, and its cookie", NEEDS_NGINX, kept_path),
        in_browser("browser: a user that the proxy signs in", NEEDS_NGINX, user_of_a_proxy),
        in_browser("browser: axe finds nothing where one signs in or has a link", axe::NEEDS, looks),
    ]
}

/// Pushes two agents by a program with a token, and waits for the alert about one of them.
fn push_fleet(lookout: &Lookout) {
    push(
        lookout,
        &json!([{"name": "asking_ann", "status": "waiting_question", "reason": "permission to run Bash"},
        {"name": "failing_fay", "status": "failed", "reason": "exit code 137"}]),
    );
    eventually("an alert", || alert(lookout).is_object().then_some(()));
}

fn push(lookout: &Lookout, agents: &Value) {
    let headers = [("authorization", "Bearer ops-4711"), ("content-type", "application/json")];
    let body = json!({"project": "shop", "agents": agents}).to_string();
    assert_eq!(lookout.send("POST", "/api/state", &headers, body.as_bytes()).status, 200);
}

/// The alert about `failing_fay`.
fn alert(lookout: &Lookout) -> Value {
    let answer = lookout.send("GET", "/api/alerts?state=firing", &[("authorization", "Bearer ops-4711")], b"");
    let alerts = answer.json()["alerts"].as_array().cloned().unwrap_or_default();
    alerts.into_iter().find(|alert| alert["agent_name"] == "failing_fay").unwrap_or(Value::Null)
}

/// Fills in the form that asks for a token.
fn sign_in(browser: &Browser, token: &str) {
    browser.until_there("#token");
    browser.type_into("#token", token);
    browser.press(&[ENTER]);
}

/// The cookies that belong to this address, also those that scripts cannot read.
fn cookies(browser: &Browser, url: &str) -> Vec<Value> {
    let found = browser.devtools("Network.getCookies", &json!({"urls": [url]}));
    found["cookies"].as_array().expect("cookies").iter().filter(|cookie| cookie["name"] != "theme").cloned().collect()
}

fn sign_in_and_out(browser: &Browser) -> Kept {
    let (setup, lookout) = start(TOKENS);
    push_fleet(&lookout);
    let fingerprint = alert(&lookout)["fingerprint"].as_str().expect("a fingerprint").to_owned();
    let link = format!("{}/alert?id={fingerprint}", lookout.url());
    browser.go(&link);
    assert_eq!(browser.eval("return document.activeElement.id"), "token", "one types at once");
    sign_in(browser, "wrong-4711");
    browser.until_there("#error");
    assert_eq!(browser.eval("return document.querySelector('#token').value"), "", "{}", browser.text("main"));
    sign_in(browser, "ops-4711");
    browser.until_text("h1", "AgentDown");
    assert_eq!(browser.url(), link);
    let found = cookies(browser, &lookout.url());
    assert_eq!(found.len(), 1, "{found:?}");
    let properties = [&found[0]["httpOnly"], &found[0]["sameSite"], &found[0]["secure"], &found[0]["path"]];
    assert_eq!(properties, [&json!(true), &json!("Strict"), &json!(false), &json!("/")], "{found:?}");
    assert_eq!(browser.eval("return document.cookie"), "", "no script reads it");
    assert!(!found[0]["value"].to_string().contains("4711"), "{found:?}");
    browser.click(".head button.ack");
    browser.until_text(".head", "acknowledged");
    assert_eq!(alert(&lookout)["acked_by"], "token ops");
    open_live(browser, &lookout.url());
    assert!(browser.text(".tools").contains("ops"), "{}", browser.text(".tools"));
    push(&lookout, &json!([{"name": "asking_ann", "status": "waiting_question", "reason": "permission to run Edit"}]));
    browser.until_text("#needs", "run Edit");
    browser.click("form[action$=logout] button");
    browser.until_there("#token");
    assert_eq!(cookies(browser, &lookout.url()), [] as [Value; 0]);
    for path in ["", "alerts", "agent?project=shop&agent=failing_fay", "setup"] {
        browser.go(&format!("{}/{path}", lookout.url()));
        browser.until_there("#token");
        assert!(!browser.text("body").contains("failing_fay"), "{path}: {}", browser.text("body"));
    }
    let answer = browser.call_later(
        "const done = arguments[0]; fetch('api/alerts').then((it) => done(it.status), (it) => done(String(it)));",
        &[],
    );
    assert_eq!(answer, 401);
    // Answers of 401 are errors in the console.
    browser.forgive();
    (setup, lookout)
}

fn roles(browser: &Browser) -> Kept {
    let (setup, lookout) = start(TOKENS);
    push_fleet(&lookout);
    let fingerprint = alert(&lookout)["fingerprint"].as_str().expect("a fingerprint").to_owned();
    browser.go(&lookout.url());
    sign_in(browser, "reads-4711");
    browser.until("return document.querySelector('#live')?.dataset.state === 'live'");
    browser.until_there("#failed .row");
    push(&lookout, &json!([{"name": "working_wil", "status": "failed", "reason": "out of disk"}]));
    browser.until_text("#failed", "out of disk");
    let acting = ".ack, .silence, .end, #silence";
    assert_eq!(browser.count(acting), 0, "neither from the page nor from the stream");
    browser.press(&['j', 'j', 'a', 's']);
    assert_eq!(browser.count("dialog[open]"), 0);
    for path in
        ["alerts".to_owned(), format!("alert?id={fingerprint}"), "agent?project=shop&agent=failing_fay".to_owned()]
    {
        browser.go(&format!("{}/{path}", lookout.url()));
        browser.until_text("main", "failing_fay");
        assert_eq!(browser.count(acting), 0, "{path}");
    }
    // By hand it is refused as well.
    let answer = browser.call_later(
        "const [path, done] = arguments;
         const headers = { 'content-type': 'application/json', 'x-lookout': 'page' };
         fetch(path, { method: 'POST', headers, body: '{}' }).then(async (it) => done([it.status, (await it.json()).error]));",
        &[json!(format!("api/alerts/{fingerprint}/ack"))],
    );
    assert_eq!(answer, json!([403, "Unauthorized"]));
    assert!(alert(&lookout)["acked_by"].is_null());
    browser.click("form[action$=logout] button");
    // One who reports may read, and no more.
    sign_in(browser, "ingests-4711");
    browser.until_there("#failed .row");
    assert_eq!(browser.count(acting), 0);
    browser.forgive();
    (setup, lookout)
}

fn shared_link(browser: &Browser) -> Kept {
    let (setup, lookout) = start(&TOKENS.replace("auth: {", "auth: {share: [{name: office, token: link-4711}], "));
    push_fleet(&lookout);
    browser.requests();
    browser.go(&format!("{}/?share=link-4711", lookout.url()));
    let shown = browser.text("body");
    assert!(shown.contains("asking_ann") && shown.contains("failing_fay"), "{shown}");
    for secret in ["Bash", "exit code", "AgentDown"] {
        assert!(
            !browser.eval("return document.documentElement.outerHTML").as_str().unwrap().contains(secret),
            "{secret}"
        );
    }
    assert_eq!(browser.count("a:not([href^='#']), button, form, script, dialog"), 0, "it leads nowhere");
    let requests = browser.requests();
    assert!(!requests.iter().any(|url| url.contains("/api/")), "{requests:?}");
    assert_eq!(cookies(browser, &lookout.url()), [] as [Value; 0]);
    browser.go(&format!("{}/alerts?share=link-4711", lookout.url()));
    browser.until_there("#token");
    browser.forgive();
    (setup, lookout)
}

fn kept_path(browser: &Browser) -> (Nginx, Kept) {
    let address = Nginx::free();
    let (setup, lookout) = start(&format!("external_url: http://{address}/watch/\n{TOKENS}"));
    push_fleet(&lookout);
    let locations =
        format!("location /watch/ {{ proxy_pass {}; }} location = / {{ return 200 'another site'; }}", lookout.url());
    let nginx = Nginx::start(address, "", &locations);
    let root = format!("{}/watch/", nginx.url());
    browser.requests();
    browser.go(&format!("{root}runs"));
    sign_in(browser, "ops-4711");
    browser.until("return document.body?.dataset.view === 'runs'");
    assert_eq!(browser.url(), format!("{root}runs"));
    assert_eq!(cookies(browser, &root)[0]["path"], "/watch", "of its own path alone");
    assert_eq!(cookies(browser, &nginx.url()), [] as [Value; 0], "another site does not get it");
    browser.click(".brand");
    browser.until("return document.querySelector('#live')?.dataset.state === 'live'");
    assert_eq!(browser.url(), root);
    browser.click("#failed .row button.ack");
    browser.until_text("#failed .row .acts", "acknowledged");
    browser.away();
    browser.eval("document.activeElement.blur()");
    push(&lookout, &json!([{"name": "asking_ann", "status": "failed", "reason": "seen through the proxy"}]));
    browser.until_text("#failed", "seen through the proxy");
    browser.click("#failed .row[data-name=asking_ann] .name");
    browser.until_text("h1", "asking_ann");
    browser.click("form[action$=logout] button");
    browser.until_there("#token");
    assert!(browser.url().starts_with(&root), "{}", browser.url());
    let requests = browser.requests();
    let outside: Vec<&String> =
        requests.iter().filter(|url| url.starts_with("http") && !url.starts_with(&root)).collect();
    assert!(outside.is_empty(), "outside of the path: {outside:?}");
    browser.forgive();
    (nginx, (setup, lookout))
}

fn user_of_a_proxy(browser: &Browser) -> (Nginx, Kept) {
    let address = Nginx::free();
    let proxy = "proxy: {from: [127.0.0.1], user_header: X-Forwarded-User, role_header: X-Forwarded-Groups}, tokens: [";
    let config = TOKENS.replace("tokens: [", proxy);
    let (setup, lookout) = start(&format!("external_url: http://{address}/\n{config}"));
    push_fleet(&lookout);
    let locations = format!(
        "location / {{ proxy_pass {}; proxy_set_header X-Forwarded-User \"ann@example.com\"; \
         proxy_set_header X-Forwarded-Groups $cookie_groups; }}",
        lookout.url()
    );
    let nginx = Nginx::start(address, "", &locations);
    // Who has no group of those that the role needs gets a sentence, as a page.
    browser.go(&nginx.url());
    browser.until_text("h1", "403");
    let refused = browser.text("main");
    assert!(refused.contains("role") && !refused.contains("failing_fay"), "{refused}");
    browser.forgive();
    browser.eval("document.cookie = 'groups=people-admin'");
    browser.reload();
    browser.until_text("h1", "403");
    browser.eval("document.cookie = 'groups=people admin'");
    browser.reload();
    browser.until_text("h1", "403");
    browser.eval("document.cookie = 'groups=people,admin'");
    open_live(browser, &nginx.url());
    assert!(browser.text(".tools").contains("ann@example.com"), "{}", browser.text(".tools"));
    assert_eq!(browser.count("form[action$=logout]"), 0, "the proxy signs out");
    browser.click("#failed .row button.ack");
    browser.until_text("#failed .row .acts", "acknowledged");
    assert_eq!(alert(&lookout)["acked_by"], "ann@example.com");
    // Without the proxy the browser is a stranger.
    browser.go(&lookout.url());
    browser.until_there("#token");
    browser.forgive();
    (nginx, (setup, lookout))
}

fn looks(browser: &Browser) -> Kept {
    let (setup, lookout) = start(&TOKENS.replace("auth: {", "auth: {share: [{name: office, token: link-4711}], "));
    push_fleet(&lookout);
    let mut found = Vec::new();
    browser.go(&lookout.url());
    axe::check(browser, &mut found, "login");
    sign_in(browser, "wrong-4711");
    browser.until_there("#error");
    axe::check(browser, &mut found, "failed login");
    browser.go(&format!("{}/?share=link-4711", lookout.url()));
    axe::check(browser, &mut found, "share");
    // It has no script, and is for screens that no one attends to.
    found.retain(|line| !(line.starts_with("share") && line.contains("meta-refresh")));
    browser.forgive();
    axe::report(&found);
    (setup, lookout)
}
