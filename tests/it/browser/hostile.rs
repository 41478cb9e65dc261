//! Agents' words are text: no markup, no script, and no request to elsewhere, on any page.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};

use super::driver::{Browser, NEEDS, in_browser};
use super::{Kept, open_live, start};
use crate::Case;
use crate::program::eventually;

pub(crate) fn trials() -> Vec<Case> {
    vec![in_browser("browser: words of agents are text, and no request leaves", NEEDS, words_are_text)]
}

/// An address that nothing may ask for, and how many did.
fn canary() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    // It ends with the process of the tests.
    thread::spawn(move || {
        for _ in listener.incoming() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    (format!("http://{address}"), calls)
}

/// Texts that try to be more.
fn hostile(canary: &str) -> Vec<String> {
    vec![
        format!("<script>window.hit=1;fetch('{canary}')</script>"),
        format!("\"><img src={canary}/1 onerror=window.hit=2>"),
        format!("'-window.hit=3-'<svg onload=fetch(\"{canary}\")>"),
        format!("</title></style><link rel=stylesheet href={canary}/2>"),
        format!("<meta http-equiv=refresh content=0;url={canary}/3>"),
        "javascript:window.hit=4".to_owned(),
        "{{ 7 * 7 }}${window.hit=5}".to_owned(),
        "\u{202e}\u{2066}evil\u{2069}fdp.exe".to_owned(),
        "*".to_owned(),
        "..".to_owned(),
        "../../assets/script.js".to_owned(),
        "?a=b&c=d#e%2f%00".to_owned(),
        "\\\"\u{2028}\u{200b}\u{fffd}".to_owned(),
        "Z\u{0335}\u{0321}a\u{0322}\u{0335}l\u{0336}g\u{0321}o \u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}".to_owned(),
        "long".repeat(40),
        "a b".repeat(40),
    ]
}

fn words_are_text(browser: &Browser) -> Kept {
    let (setup, lookout) = start("");
    let (canary, calls) = canary();
    let texts = hostile(&canary);
    let mut names = Vec::new();
    for (at, text) in texts.iter().enumerate() {
        let status = ["failed", "waiting_question", "running", "idle"][at % 4];
        let agent = json!({"name": text, "status": status, "reason": text, "task_id": text, "phase": text, "type": text,
            "model": text, "tokens": {"input": 7}});
        let project = texts[(at + 1) % texts.len()].as_str();
        let component = json!({"name": text, "status": "ERROR", "details": text});
        for project in [project, "shop"] {
            let body = json!({"project": project, "agents": [agent], "components": [component]});
            let answer = lookout.post("/api/state", &body);
            // A name that is refused is never shown.
            if answer.status == 200 && answer.json().get("rejected").is_none() {
                names.push((project.to_owned(), text.clone()));
            }
        }
    }
    assert!(names.len() > 20, "{} are accepted", names.len());
    assert_eq!(lookout.post("/agents/register", &json!({"name": "ann", "project_id": "shop"})).status / 100, 2);
    for text in &texts {
        let started = lookout.post("/agents/shop/ann/trace/start", &json!({"name": text}));
        let id = started.json()["trace_id"].clone();
        let end = json!({"trace_id": id, "status": "error", "error": text, "model": text});
        assert_eq!(lookout.post("/agents/shop/ann/trace/end", &end).status, 200);
        let silence = json!({"matchers": {"agent_name": text}, "duration": "1h", "comment": text, "created_by": text});
        assert!(lookout.post("/api/silences", &silence).status < 500);
    }
    let alerts = eventually("alerts", || {
        let alerts = lookout.get("/api/alerts?limit=1000").json()["alerts"].as_array().cloned()?;
        (alerts.len() > texts.len() / 2).then_some(alerts)
    });
    let runs = lookout.get("/api/traces").json();
    let mut paths: Vec<String> = ["", "alerts", "runs", "setup", "?wall"].map(str::to_owned).into();
    let of = |value: &Value, path: &str, key: &str| format!("{path}?id={}", value[key].as_str().unwrap_or_default());
    paths.extend(alerts.iter().map(|alert| of(alert, "alert", "fingerprint")));
    paths.extend(runs["runs"].as_array().into_iter().flatten().take(4).map(|run| of(run, "run", "run_id")));
    for text in [&texts[0], &texts[1]] {
        let text = percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
        paths.extend([
            format!("?q={text}"),
            format!("?project={text}&type={text}"),
            format!("runs?q={text}&agent={text}"),
        ]);
    }
    browser.requests();
    for path in &paths {
        browser.go(&format!("{}/{path}", lookout.url()));
        check(browser, path);
    }
    // By the page's own links, each agent is found, and its page has the name as it is.
    open_live(browser, &lookout.url());
    let links =
        browser.eval("return [...document.querySelectorAll('#fleet a.name, #fleet .squares a')].map((it) => it.href)");
    let links: Vec<&str> = links.as_array().expect("links").iter().filter_map(Value::as_str).collect();
    assert_eq!(links.len(), names.len() + 1, "each agent is on the page");
    for link in links {
        browser.go(link);
        check(browser, link);
        let heading =
            browser.eval("return document.querySelector('h1')?.textContent").as_str().unwrap_or_default().to_owned();
        let is_known =
            heading == "shop/ann" || names.iter().any(|(project, name)| heading == format!("{project}/{name}"));
        assert!(is_known, "{link}: {heading:?}");
    }
    // What the script puts in place is text as well.
    open_live(browser, &lookout.url());
    browser.press(&['j', ' ']);
    browser.until_there(".peek[open] h1");
    check(browser, "peek");
    browser.press(&['\u{e00c}', 'j', 's']);
    browser.until_there("#silence[open]");
    browser.until_text("#silence .preview", "Covers");
    check(browser, "silence");
    let own = [&*lookout.url(), "data:", "about:", "chrome:"];
    let foreign: Vec<String> =
        browser.requests().into_iter().filter(|url| !own.iter().any(|start| url.starts_with(start))).collect();
    assert!(foreign.is_empty(), "requests left: {foreign:?}");
    assert_eq!(calls.load(Ordering::SeqCst), 0, "something asked for {canary}");
    (setup, lookout)
}

/// The page has only elements of its own, nothing ran, and nothing is wider than the window.
fn check(browser: &Browser, what: &str) {
    let found = browser.eval(
        "const strange = [...document.querySelectorAll('img, iframe, object, embed, style, base, body script, body link, body meta')];
         const handlers = [...document.querySelectorAll('*')].filter((it) => [...it.attributes].some((one) => /^on/i.test(one.name)));
         const links = [...document.querySelectorAll('[href]')].filter((it) => {
           const url = new URL(it.getAttribute('href'), document.baseURI);
           return url.origin !== location.origin && url.protocol !== 'data:' || !url.protocol.startsWith('http');
         });
         return { hit: window.hit ?? null, strange: strange.concat(handlers, links).map((it) => it.outerHTML.slice(0, 200)),
                  scripts: document.scripts.length, overflow: document.documentElement.scrollWidth - innerWidth };",
    );
    assert_eq!(found["hit"], Value::Null, "{what}: a script ran");
    assert_eq!(found["strange"], json!([]), "{what}");
    assert!(found["scripts"].as_u64() <= Some(1), "{what}: {found}");
    assert!(found["overflow"].as_i64() <= Some(0), "{what}: wider than the window by {}", found["overflow"]);
}
