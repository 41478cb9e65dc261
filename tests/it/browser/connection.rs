//! What comes between the browser and the program: restarts, proxies that are cut, paths, and other tabs.

use serde_json::{Value, json};

use super::driver::{Browser, NEEDS, in_browser};
use super::{Kept, alert_about, open_live, push, push_fleet, start};
use crate::Case;
use crate::counterparts::Need;
use crate::nginx::Nginx;
use crate::program::{Lookout, Setup, eventually};
use crate::slack::metric;

pub(crate) const NEEDS_NGINX: &[Need] = &[Need::Chromium, Need::Chromedriver, Need::Nginx];

pub(crate) fn trials() -> Vec<Case> {
    vec![
        in_browser("browser: a restart of the program hides no change", NEEDS, restart),
        in_browser("browser: an EventSource that a proxy cuts resumes, and resyncs after a restart", NEEDS_NGINX, cut),
        in_browser("browser: tabs share one stream, and another takes it over", NEEDS, tabs),
        in_browser("browser: the page below a path that the proxy strips", NEEDS_NGINX, stripped),
    ]
}

/// Starts the program again at the address it had.
fn start_again(setup: &Setup, lookout: Lookout) -> Lookout {
    let address = lookout.address();
    let config = std::fs::read_to_string(setup.path().join("lookout.yaml")).expect("a configuration");
    setup.write("lookout.yaml", &config.replace("listen: 127.0.0.1:0\n", &format!("listen: {address}\n")));
    assert!(lookout.sigterm().success());
    let lookout = eventually("its address is free", || setup.spawn().ok());
    assert_eq!(lookout.address(), address);
    lookout
}

fn restart(browser: &Browser) -> Kept {
    let (setup, lookout) = start("");
    push_fleet(&lookout);
    open_live(browser, &lookout.url());
    browser.until_there("#failed .row.l-error");
    browser.eval("window.isSame = true; window.wasLost = false");
    browser.eval(
        "new MutationObserver(() => { window.wasLost ||= document.querySelector('#live').dataset.state === 'lost'; })
           .observe(document.querySelector('#live'), { attributes: true });",
    );
    let lookout = start_again(&setup, lookout);
    // At once, most likely before the browser is back.
    push(&lookout, &json!([{"name": "idle_ida", "status": "waiting_review", "reason": "before it is back"}]));
    browser.until_text("#needs", "before it is back");
    browser.until("return document.querySelector('#live').dataset.state === 'live'");
    assert_eq!(browser.eval("return window.wasLost"), true, "a lost connection is shown");
    push(&lookout, &json!([{"name": "idle_ida", "status": "idle"}, {"name": "done_dan", "status": "failed"}]));
    browser.until_text("#failed", "done_dan");
    browser.until("return !document.querySelector('#needs').innerText.includes('idle_ida')");
    assert_eq!(browser.eval("return window.isSame"), true, "the page was not loaded again");
    assert!(browser.text("#failed").contains("exit code 137"), "what was known before is still there");
    // Refused connections are errors in the console.
    browser.forgive();
    (setup, lookout)
}

/// The events that the page's own source got: kind and agent.
fn received(browser: &Browser, count: usize) -> Vec<Value> {
    browser.until(&format!("return window.received.length >= {count}"));
    browser.eval("return window.received").as_array().expect("events").clone()
}

fn cut(browser: &Browser) -> (Nginx, Kept) {
    let (setup, lookout) = start("");
    let mut nginx = Nginx::start(Nginx::free(), "", &format!("location / {{ proxy_pass {}; }}", lookout.url()));
    browser.go(&format!("{}/setup", nginx.url()));
    browser.eval(
        "window.received = [];
         window.source = new EventSource('api/monitoring/stream?events=status');
         for (const kind of ['status', 'resync']) {
           source.addEventListener(kind, (event) => window.received.push([kind, JSON.parse(event.data).name ?? null]));
         }",
    );
    browser.until("return window.source.readyState === 1");
    let agent = |number: usize| {
        push(&lookout, &json!([{"name": format!("a{number}"), "status": "idle"}]));
    };
    (0..3).for_each(agent);
    received(browser, 3);
    nginx.cut();
    browser.until("return window.source.readyState === 0");
    (3..6).for_each(agent);
    nginx.go_on();
    agent(6);
    let expected: Vec<Value> = (0..7).map(|number| json!(["status", format!("a{number}")])).collect();
    assert_eq!(received(browser, 7), expected, "nothing is missed, and nothing comes twice");
    let lookout = start_again(&setup, lookout);
    received(browser, 8);
    push(&lookout, &json!([{"name": "later", "status": "idle"}]));
    let after: Vec<Value> = received(browser, 9).split_off(7);
    assert_eq!(after, [json!(["resync", null]), json!(["status", "later"])]);
    browser.until("return document.querySelector('#live').dataset.state !== 'lost'");
    browser.forgive();
    (nginx, (setup, lookout))
}

fn tabs(browser: &Browser) -> Kept {
    let (setup, lookout) = start("");
    push_fleet(&lookout);
    open_live(browser, &lookout.url());
    browser.new_tab();
    open_live(browser, &lookout.url());
    eventually("both follow", || (metric(&lookout, "lookout_streams") == Some(1.0)).then_some(()));
    push(&lookout, &json!([{"name": "idle_ida", "status": "waiting_review", "reason": "in both tabs"}]));
    browser.until_text("#needs", "in both tabs");
    browser.close_other_tabs();
    // The first tab read the stream.
    browser.until("return document.querySelector('#live').dataset.state === 'live'");
    push(&lookout, &json!([{"name": "idle_ida", "status": "waiting_review", "reason": "in the one that is left"}]));
    browser.until_text("#needs", "in the one that is left");
    eventually("one follows", || (metric(&lookout, "lookout_streams") == Some(1.0)).then_some(()));
    (setup, lookout)
}

/// Every view below `/watch/`: its assets, links, actions and the stream.
fn below_a_path(browser: &Browser, lookout: &Lookout, root: &str) {
    push_fleet(lookout);
    browser.requests();
    open_live(browser, root);
    assert_eq!(browser.eval("return getComputedStyle(document.body).margin"), "0px", "the style is there");
    for view in ["alerts", "runs", "setup"] {
        browser.click(&format!("nav a[href={view}]"));
        browser.until(&format!("return document.body?.dataset.view === '{view}'"));
        assert_eq!(browser.url(), format!("{root}{view}"));
    }
    browser.click(".brand");
    browser.until("return document.body?.dataset.view === 'fleet'");
    assert_eq!(browser.url(), root);
    browser.until("return document.querySelector('#live')?.dataset.state === 'live'");
    browser.click("#failed .row button.ack");
    browser.until_text("#failed .row .acts", "acknowledged");
    push(lookout, &json!([{"name": "idle_ida", "status": "failed", "reason": "seen through the proxy"}]));
    alert_about(lookout, "idle_ida");
    // Rows wait while the pointer or the focus is on one.
    browser.away();
    browser.eval("document.activeElement.blur()");
    browser.until_text("#failed", "seen through the proxy");
    browser.click("#failed .row[data-name=idle_ida] .name");
    browser.until_text("h1", "idle_ida");
    browser.click("#theme");
    assert_eq!(browser.eval("return document.documentElement.dataset.theme"), "dark");
    browser.reload();
    assert_eq!(browser.eval("return document.documentElement.dataset.theme"), "dark");
    let requests = browser.requests();
    let outside: Vec<&String> =
        requests.iter().filter(|url| url.starts_with("http") && !url.starts_with(root)).collect();
    assert!(outside.is_empty(), "outside of the path: {outside:?}");
}

fn stripped(browser: &Browser) -> (Nginx, Kept) {
    let address = Nginx::free();
    let (setup, lookout) = start(&format!("external_url: http://{address}/watch/\n"));
    let nginx = Nginx::start(address, "", &format!("location /watch/ {{ proxy_pass {}/; }}", lookout.url()));
    browser.prefer("light");
    below_a_path(browser, &lookout, &format!("{}/watch/", nginx.url()));
    (nginx, (setup, lookout))
}
