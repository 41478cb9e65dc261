//! Every page and state in both themes by axe-core: no violation, and contrast is checked.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use lookout::clock::Clock;
use serde_json::{Value, json};

use super::driver::{Browser, in_browser};
use super::{Kept, alert_about, open_live, push, push_fleet, runs, start};
use crate::Case;
use crate::counterparts::{Need, node_modules};
use crate::nginx::Nginx;
use crate::program::{Lookout, eventually};

pub(crate) const NEEDS: &[Need] = &[Need::Chromium, Need::Chromedriver, Need::Axe];

/// Runs axe. What it cannot decide is left out for text of drawings, see [`FAINT`], for single dots, and for text that is
/// cut off, which it takes to be under what follows.
const RUN: &str = "
  const [part, done] = arguments;
  const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
  const isUnclear = (node) => {
    const element = document.querySelector(node.target[0]);
    const reason = node.any[0]?.data?.messageKey;
    return !element.closest('svg') && !['shortTextContent', 'elmPartiallyObscured'].includes(reason)
      && !(reason === 'bgOverlap' && element.scrollWidth > element.clientWidth);
  };
  axe.run(part, { runOnly: { type: 'tag', values: tags }, resultTypes: ['violations', 'incomplete', 'passes'] }).then(
    ({ violations, incomplete, passes }) => {
      for (const rule of incomplete) rule.nodes = rule.nodes.filter(isUnclear);
      done({ violations, incomplete, passes: passes.map((rule) => rule.id) });
    },
    (problem) => done({ failed: String(problem) }));";

/// Text of drawings that has less contrast than 4.5:1 with the ground of the page or the stripes of the drawing.
const FAINT: &str = "
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const light = (color) => {
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const parts = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((it) => it / 255);
    const [red, green, blue] = parts.map((it) => it <= 0.04045 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const ground = (element) => {
    const color = getComputedStyle(element).backgroundColor;
    return color === 'rgba(0, 0, 0, 0)' && element.parentElement ? ground(element.parentElement) : color;
  };
  const faint = [];
  for (const text of document.querySelectorAll('main svg text')) {
    const stripes = [...text.ownerSVGElement.querySelectorAll('.stripe')].map((it) => getComputedStyle(it).fill);
    const fill = light(getComputedStyle(text).fill);
    for (const color of new Set([ground(text.ownerSVGElement), ...stripes])) {
      const [high, low] = [fill, light(color)].sort((one, other) => other - one);
      const ratio = (high + 0.05) / (low + 0.05);
      if (ratio < 4.5) faint.push(`${text.textContent}: ${ratio.toFixed(2)} on ${color}`);
    }
  }
  return faint;";

pub(crate) fn trials() -> Vec<Case> {
    vec![
        in_browser("browser: axe finds nothing on the fleet and its dialogs", NEEDS, fleet),
        in_browser("browser: axe finds nothing on the other pages", NEEDS, views),
        in_browser("browser: axe finds nothing on a page that is empty or an error", NEEDS, empty_and_errors),
    ]
}

/// What axe finds on the page as it is, in both themes, and on a phone.
pub(crate) fn check(browser: &Browser, found: &mut Vec<String>, what: &str) {
    check_part(browser, found, what, "html", &[("light", 1440), ("dark", 1440), ("light", 320)]);
}

/// The same of one element.
fn check_part(browser: &Browser, found: &mut Vec<String>, what: &str, part: &str, looks: &[(&str, u32)]) {
    for &(theme, width) in looks {
        browser.prefer(theme);
        browser.width(width);
        let what = &format!("{what}, {theme}, {width} px");
        let wider = browser.eval("return document.documentElement.scrollWidth - innerWidth").as_i64();
        if wider > Some(0) {
            found.push(format!("{what}: the page is wider than the window by {wider:?} px"));
        }
        if browser.eval("return typeof axe") == "undefined" {
            let path = node_modules().iter().map(|dir| dir.join("axe-core/axe.min.js")).find(|path| path.is_file());
            browser.eval(&fs::read_to_string(path.expect("axe")).expect("axe is text"));
        }
        // Rows fade after a change, and what fades has no contrast of its own.
        browser.until("return document.getAnimations().every((it) => it.playState !== 'running')");
        let result = browser.call_later(RUN, &[json!(part)]);
        let passes = result["passes"].as_array().unwrap_or_else(|| panic!("{what}: axe failed: {result}"));
        assert!(passes.contains(&json!("color-contrast")) || has_contrast(&result), "{what}: contrast was not checked");
        // What axe cannot decide counts as well.
        let unclear =
            result["incomplete"].as_array().into_iter().flatten().filter(|rule| rule["id"] == "color-contrast");
        for rule in result["violations"].as_array().into_iter().flatten().chain(unclear) {
            let nodes = rule["nodes"].as_array().into_iter().flatten();
            for node in nodes {
                found.push(violation(what, rule, node));
            }
        }
        let faint = browser.eval(FAINT);
        let faint = faint.as_array().unwrap_or_else(|| panic!("{what}: {faint}"));
        found.extend(faint.iter().map(|text| format!("{what}: contrast in a drawing: {text}")));
    }
}

fn has_contrast(result: &Value) -> bool {
    result["violations"].as_array().into_iter().flatten().any(|rule| rule["id"] == "color-contrast")
}

fn violation(what: &str, rule: &Value, node: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut line = format!("{what}: {} ({}): {}", text(&rule["id"]), text(&rule["impact"]), node["target"]);
    for check in ["any", "all", "none"].iter().flat_map(|kind| node[*kind].as_array().into_iter().flatten()) {
        write!(line, "; {}", text(&check["message"])).expect("a string takes all");
    }
    line
}

pub(crate) fn report(found: &[String]) {
    assert!(found.is_empty(), "axe found:\n{}", found.join("\n"));
}

/// A fleet with every level, and with what fails: a source, a budget, a component, a project.
fn start_rich() -> (Kept, String) {
    let config = format!(
        "budgets: {{tokens_per_task: 1000, tokens_per_day: 5000, cost_usd_per_day: 1}}\n\
         sources: [{{name: orch, kind: orchestrator-cc, url: \"http://{}\", interval: 100ms, project: lab}}]\n",
        Nginx::free()
    );
    let (setup, lookout) = start(&config);
    push(&lookout, &json!([{"name": "back_bob", "status": "failed", "reason": "out of memory"}]));
    alert_about(&lookout, "back_bob");
    push(&lookout, &json!([{"name": "back_bob", "status": "running"}]));
    let alert = push_fleet(&lookout);
    push(
        &lookout,
        &json!([
            {"name": "spending_sam", "status": "running", "task_id": "t2", "tokens": {"input": 10}, "cost_usd": 0.1},
            {"name": "full_flo", "status": "running", "context_window_ratio": 0.97},
            {"name": "blocked_bea", "status": "waiting_dependency", "reason": "the build"}]),
    );
    let spent = json!([{"name": "spending_sam", "status": "running", "task_id": "t2", "tokens": {"input": 4000}, "cost_usd": 0.95}]);
    push(&lookout, &spent);
    for body in [
        json!({"project": "shop", "agents": [], "components": [
            {"name": "DatabaseManager", "status": "WARNING", "details": "pool is full"},
            {"name": "Queue", "status": "LIMITED", "details": "slow"}]}),
        json!({"project": "lost", "agents": [{"name": "last_lou", "status": "failed", "reason": "exit code 1"}]}),
    ] {
        let answer = lookout.post("/api/state", &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let silence = json!({"matchers": {"agent_name": "full_flo"}, "duration": "1h", "comment": "planned"});
    assert_eq!(lookout.post("/api/silences", &silence).status, 200);
    let acknowledged = lookout.post(&format!("/api/alerts/{alert}/ack"), &json!({"by": "ann", "comment": "on it"}));
    assert_eq!(acknowledged.status, 200);
    eventually("every level", || {
        let alerts = lookout.get("/api/alerts?state=firing&limit=100").text().to_owned();
        let levels = ["info", "warning", "error", "critical"].map(|level| format!(r#""level":"{level}""#));
        let rules = ["ContextNearlyFull", "SourceDown", "TaskTokenBudget"].map(str::to_owned);
        levels.iter().chain(&rules).all(|text| alerts.contains(text)).then_some(())
    });
    ((setup, lookout), alert)
}

/// A run with a span of each kind; its id.
fn report_run(lookout: &Lookout) -> String {
    let began = Clock::system().wall().minus(Duration::from_secs(60));
    let at = |seconds: u64| began.plus(Duration::from_secs(seconds)).to_jiff().to_string();
    let kinds = ["llm", "tool", "agent", "retrieval", "wait", "other"];
    let spans = kinds.iter().enumerate().map(|(number, kind)| {
        json!({"span_id": format!("00000000000000a{number}"), "name": format!("{kind} of the run"), "kind": kind,
            "started_at": at(number as u64 * 5), "duration_ms": 4000, "status": if *kind == "tool" { "error" } else { "ok" }})
    });
    let id = "7c1e8f92a3577b34da6a3ce929d0e0e4";
    let run = json!({"run_id": id, "project": "shop", "agent_name": "working_wil", "started_at": at(0), "ended_at": at(40),
        "status": "ok", "tokens": {"input": 1200, "output": 80}, "spans": spans.collect::<Vec<Value>>()});
    let answer = lookout.post("/api/traces", &run);
    assert!(answer.status < 300, "{}", answer.text());
    id.to_owned()
}

fn fleet(browser: &Browser) -> Kept {
    let ((setup, lookout), _) = start_rich();
    let mut found = Vec::new();
    open_live(browser, &lookout.url());
    browser.until_there("#failed .row.l-error");
    check(browser, &mut found, "fleet");
    browser.click("#help-open");
    check(browser, &mut found, "keys");
    browser.click("#help button");
    browser.click("#failed .row[data-name=failing_fay] button.silence");
    browser.until_text("#silence .preview", "Covers");
    check(browser, &mut found, "silence");
    browser.click("#silence button[value=cancel]");
    browser.press(&['j', ' ']);
    browser.until_there(".peek[open] h1");
    // It covers the page.
    check_part(browser, &mut found, "peek", ".peek", &[("light", 1440), ("dark", 1440), ("light", 320)]);
    browser.go(&format!("{}/?wall", lookout.url()));
    check_part(browser, &mut found, "wall", "html", &[("light", 1440), ("dark", 3840)]);
    browser.go(&format!("{}/?q=nothing", lookout.url()));
    check(browser, &mut found, "no match");
    report(&found);
    (setup, lookout)
}

fn views(browser: &Browser) -> Kept {
    let ((setup, lookout), alert) = start_rich();
    let mut ids = runs(&lookout);
    ids.push(report_run(&lookout));
    let mut found = Vec::new();
    for path in [
        "alerts".to_owned(),
        format!("alert?id={alert}"),
        "agent?project=shop&agent=working_wil".to_owned(),
        "agent?project=shop&agent=spending_sam".to_owned(),
        "runs".to_owned(),
        "runs?status=ok".to_owned(),
        format!("run?id={}", ids[0]),
        format!("run?id={}", ids[2]),
        format!("compare?run={}&run={}", ids[0], ids[1]),
        "setup".to_owned(),
    ] {
        browser.go(&format!("{}/{path}", lookout.url()));
        check(browser, &mut found, &path);
    }
    report(&found);
    (setup, lookout)
}

fn empty_and_errors(browser: &Browser) -> Kept {
    let (setup, lookout) = start("");
    let mut found = Vec::new();
    for path in ["", "alerts", "runs", "setup", "agent?project=shop&agent=gone", "run?id=1", "compare?run=1"] {
        browser.go(&format!("{}/{path}", lookout.url()));
        check(browser, &mut found, &format!("/{path}"));
    }
    // Answers other than 200 are errors in the console.
    browser.forgive();
    report(&found);
    (setup, lookout)
}
