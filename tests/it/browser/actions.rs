//! What a person does on the page: filter, acknowledge, silence; with the pointer, with the keyboard alone, and without
//! JavaScript.

use serde_json::{Value, json};

use super::driver::{Browser, NEEDS, in_browser};
use super::{Kept, alert_about, open_live, push, push_fleet, runs, start};
use crate::Case;
use crate::program::{Lookout, eventually};

const ESCAPE: char = '\u{e00c}';
const ENTER: char = '\u{e007}';
const TAB: char = '\u{e004}';

pub(crate) fn trials() -> Vec<Case> {
    vec![
        in_browser("browser: filters are in the address, which shows the same again", NEEDS, filters),
        in_browser("browser: an alert is acknowledged", NEEDS, acknowledge),
        in_browser("browser: a silence says what it covers, and ends", NEEDS, silences),
        in_browser("browser: the keyboard is enough", NEEDS, keyboard),
        in_browser("browser: the page works without JavaScript", NEEDS, without_javascript),
        in_browser("browser: rows keep their place under the pointer, and the theme stays", NEEDS, calm),
    ]
}

/// The names of the agents on the page, as rows and as squares.
fn agents(browser: &Browser) -> Vec<String> {
    let found = browser.eval(
        "return [...document.querySelectorAll('#fleet .row .name b')].map((it) => it.textContent)
           .concat([...document.querySelectorAll('#fleet .squares a')].map((it) => new URL(it.href).searchParams.get('agent')))",
    );
    found.as_array().expect("names").iter().map(|name| name.as_str().expect("a name").to_owned()).collect()
}

/// The alert about `agent`, as the API has it.
fn alert(lookout: &Lookout, agent: &str) -> Value {
    lookout.get(&format!("/api/alerts?agent={agent}&state=firing")).json()["alerts"][0].clone()
}

fn filters(browser: &Browser) -> Kept {
    let (setup, lookout) = start("");
    push_fleet(&lookout);
    open_live(browser, &lookout.url());
    browser.type_into("#search", "ANN");
    browser.until("return location.search === '?q=ANN'");
    browser.until_gone("#failed");
    assert_eq!(agents(browser), ["asking_ann"]);
    // A change of another agent does not bring it in, and one of its own is shown.
    push(&lookout, &json!([{"name": "working_wil", "status": "failed", "reason": "out of memory"}]));
    push(&lookout, &json!([{"name": "asking_ann", "status": "waiting_question", "reason": "permission to run Edit"}]));
    browser.until_text("#needs .row", "run Edit");
    assert_eq!(agents(browser), ["asking_ann"]);
    let link = browser.url();
    browser.go("about:blank");
    open_live(browser, &link);
    assert_eq!(browser.eval("return document.querySelector('#search').value"), "ANN");
    assert_eq!(agents(browser), ["asking_ann"]);
    browser.eval("document.querySelector('#search').value = ''");
    browser.type_into("select[name=type]", "codex");
    browser.until("return location.search === '?type=codex'");
    browser.until_there("#failed");
    assert_eq!(agents(browser), ["working_wil"]);
    open_live(browser, &format!("{}/?project=lab", lookout.url()));
    browser.until_text("#fleet", "No agent matches");
    browser.click("#fleet .none a");
    browser.until_there("#failed");
    assert_eq!(agents(browser).len(), 6);
    (setup, lookout)
}

fn acknowledge(browser: &Browser) -> Kept {
    let (setup, lookout) = start("");
    let fingerprint = push_fleet(&lookout);
    open_live(browser, &lookout.url());
    browser.click("#failed .row[data-name=failing_fay] button.ack");
    browser.until_text("#failed .row[data-name=failing_fay] .acts", "acknowledged");
    assert!(alert(&lookout, "failing_fay")["acked_by"].is_string(), "{}", alert(&lookout, "failing_fay"));
    assert_eq!(browser.count("#failed .row[data-name=failing_fay] button.ack"), 0);
    // On the page of an alert as well.
    push(&lookout, &json!([{"name": "working_wil", "status": "failed", "reason": "out of memory"}]));
    let other = alert_about(&lookout, "working_wil");
    assert_ne!(fingerprint, other);
    browser.go(&format!("{}/alert?id={other}", lookout.url()));
    browser.click(".head button.ack");
    browser.until_text(".head", "acknowledged");
    assert!(alert(&lookout, "working_wil")["acked_by"].is_string());
    (setup, lookout)
}

fn silences(browser: &Browser) -> Kept {
    let (setup, lookout) = start("");
    push_fleet(&lookout);
    push(&lookout, &json!([{"name": "working_wil", "status": "failed", "reason": "out of memory"}]));
    alert_about(&lookout, "working_wil");
    open_live(browser, &lookout.url());
    let row = "#failed .row[data-name=failing_fay]";
    browser.until_there("#failed .row[data-name=working_wil]");
    browser.click(&format!("{row} button.silence"));
    browser.until_text("#silence .preview", "Covers 1 alert that fires now");
    // Nothing is silenced by looking at it.
    browser.type_into("#silence select[name=scope]", "AgentDown of all");
    browser.until_text("#silence .preview", "Covers 2 alerts that fire now");
    browser.press(&[ESCAPE]);
    browser.until_gone("#silence[open]");
    assert_eq!(lookout.get("/api/silences").json()["silences"], json!([]));
    browser.click(&format!("{row} button.silence"));
    browser.until_text("#silence .preview", "Covers 1 alert that fires now");
    browser.type_into("#silence [name=comment]", "a <b>planned</b> stop");
    browser.type_into("#silence select[name=duration]", "8 hours");
    browser.click("#silence button[value=ok]");
    browser.until_text(&format!("{row} .acts"), "silenced");
    let silence = lookout.get("/api/silences").json()["silences"][0].clone();
    assert_eq!(silence["comment"], "a <b>planned</b> stop", "{silence}");
    let matchers = silence["matchers"].to_string();
    assert!(matchers.contains("AgentDown") && matchers.contains("failing_fay"), "{silence}");
    assert!(alert(&lookout, "working_wil")["silenced_by"].is_null(), "the other is not covered");
    open_live(browser, &format!("{}/alerts", lookout.url()));
    assert!(browser.text("[data-silence]").contains("a <b>planned</b> stop"), "{}", browser.text("[data-silence]"));
    browser.click("[data-silence] button.end");
    browser.until_gone("[data-silence]");
    assert!(alert(&lookout, "failing_fay")["silenced_by"].is_null());
    open_live(browser, &lookout.url());
    browser.until_there(row);
    assert!(!browser.text(row).contains("silenced"), "{}", browser.text(row));
    (setup, lookout)
}

/// The agent of the row that has the focus.
fn focused(browser: &Browser) -> Value {
    browser.eval("return document.activeElement.closest('.row')?.dataset.name ?? null")
}

fn keyboard(browser: &Browser) -> Kept {
    let (setup, lookout) = start("");
    push_fleet(&lookout);
    open_live(browser, &lookout.url());
    browser.away();
    // The first stop leads past the navigation.
    browser.press(&[TAB]);
    assert_eq!(browser.eval("return document.activeElement.className"), "skip");
    browser.press(&['/']);
    assert_eq!(browser.eval("return document.activeElement.id"), "search");
    browser.press(&['f', 'a', 'y']);
    browser.until("return location.search === '?q=fay'");
    browser.until_gone("#needs");
    browser.press(&[ESCAPE]);
    open_live(browser, &lookout.url());
    browser.until_there("#failed .row.l-error");
    browser.press(&['j']);
    assert_eq!(focused(browser), "asking_ann");
    browser.press(&['j']);
    assert_eq!(focused(browser), "failing_fay");
    browser.press(&['k', 'k']);
    assert_eq!(focused(browser), "asking_ann", "there is none before the first");
    // The focus is to be seen.
    let outline = browser.eval("return getComputedStyle(document.activeElement).outlineStyle");
    assert_ne!(outline, "none");
    browser.press(&['j', ' ']);
    browser.until_text(".peek h1", "failing_fay");
    browser.press(&[ESCAPE]);
    browser.until_gone(".peek[open]");
    assert_eq!(focused(browser), "failing_fay", "the focus is back where it was");
    browser.press(&['a']);
    browser.until_text("#failed .row", "acknowledged");
    assert!(alert(&lookout, "failing_fay")["acked_by"].is_string());
    assert_eq!(focused(browser), "failing_fay");
    browser.press(&['s']);
    browser.until_there("#silence[open]");
    browser.until_text("#silence .preview", "Covers 1 alert");
    assert_eq!(
        browser.eval("return document.activeElement.closest('#silence') !== null"),
        true,
        "the dialog has the focus"
    );
    browser.press(&[TAB, TAB, 'x', ENTER]);
    browser.until_gone("#silence[open]");
    browser.until_text("#failed .row", "silenced");
    browser.press(&['?']);
    browser.until_there("#help[open]");
    browser.press(&[ESCAPE]);
    browser.until_gone("#help[open]");
    browser.press(&['g', 'a']);
    browser.until("return document.body?.dataset.view === 'alerts'");
    browser.until_there(".live-on");
    browser.press(&['g', 'f']);
    browser.until("return document.body?.dataset.view === 'fleet'");
    browser.until_there(".live-on");
    browser.until_there("#needs .row");
    browser.press(&['j', ENTER]);
    browser.until("return document.body?.dataset.view === 'agent'");
    browser.until_text("h1", "asking_ann");
    (setup, lookout)
}

fn without_javascript(browser: &Browser) -> Kept {
    let (setup, lookout) = start("");
    push_fleet(&lookout);
    let ids = runs(&lookout);
    browser.devtools("Emulation.setScriptExecutionDisabled", &json!({"value": true}));
    browser.go(&lookout.url());
    assert_eq!(browser.count(".live-on"), 0, "the script does not run");
    assert!(browser.text("#needs").contains("permission to run Bash"), "{}", browser.text("#fleet"));
    // Buttons that would do nothing are not there.
    let shown = browser.eval("return [...document.querySelectorAll('button')].filter((it) => it.checkVisibility()).map((it) => it.textContent)");
    assert_eq!(shown, json!(["Apply"]));
    browser.type_into("#search", "fay");
    browser.click("form.filters button.nojs");
    browser.until("return location.search.includes('q=fay')");
    assert_eq!(agents(browser), ["failing_fay"]);
    browser.click("#failed .name");
    browser.until_text("h1", "failing_fay");
    browser.click("nav a[href=runs]");
    browser.until_there("table.runs");
    for id in &ids {
        browser.click(&format!("input[value='{id}']"));
    }
    browser.click("#runs form button");
    browser.until_there("table.compare");
    assert!(browser.text("table.compare").contains("nightly build"), "{}", browser.text("table.compare"));
    browser.click(".brand");
    browser.until_there("#needs");
    // It loads again by itself.
    push(&lookout, &json!([{"name": "asking_ann", "status": "failed", "reason": "out of disk"}]));
    browser.until_text("#failed", "out of disk");
    (setup, lookout)
}

fn calm(browser: &Browser) -> Kept {
    let (setup, lookout) = start("");
    push_fleet(&lookout);
    open_live(browser, &lookout.url());
    browser.away();
    browser.press(&['j']);
    assert_eq!(focused(browser), "asking_ann");
    push(&lookout, &json!([{"name": "working_wil", "status": "waiting_question", "reason": "which branch"}]));
    browser.until_text("#changes", "change");
    assert_eq!(browser.count("#needs .row"), 1, "rows wait while one has the focus");
    browser.click("#changes");
    browser.until_text("#needs", "which branch");
    browser.until("return document.querySelector('#changes').hidden");
    // A theme that was chosen is still there on the next page, without a flash of the other.
    browser.prefer("light");
    browser.click("#theme");
    assert_eq!(browser.eval("return document.documentElement.dataset.theme"), "dark");
    let dark = browser.eval("return getComputedStyle(document.documentElement).backgroundColor");
    browser.go(&format!("{}/runs", lookout.url()));
    assert_eq!(browser.eval("return document.documentElement.dataset.theme"), "dark");
    assert_eq!(browser.eval("return getComputedStyle(document.documentElement).backgroundColor"), dark);
    eventually("the cookie is of the page alone", || {
        browser.eval("return document.cookie").as_str().is_some_and(|it| it == "theme=dark").then_some(())
    });
    (setup, lookout)
}
