//! Every page and state in both themes by axe-core: no violation, and contrast is checked.

use std::fmt::Write as _;
use std::fs;

use serde_json::{Value, json};

use super::driver::{Browser, in_browser};
use super::{Kept, open_live, push_fleet, runs, start};
use crate::Case;
use crate::counterparts::{Need, node_modules};

const NEEDS: &[Need] = &[Need::Chromium, Need::Chromedriver, Need::Axe];

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

/// What axe finds on the page as it is, in both themes.
fn check(browser: &Browser, found: &mut Vec<String>, what: &str) {
    for theme in ["light", "dark"] {
        browser.prefer(theme);
        if browser.eval("return typeof axe") == "undefined" {
            let path = node_modules().iter().map(|dir| dir.join("axe-core/axe.min.js")).find(|path| path.is_file());
            browser.eval(&fs::read_to_string(path.expect("axe")).expect("axe is text"));
        }
        // Rows fade after a change, and what fades has no contrast of its own.
        browser.until("return document.getAnimations().every((it) => it.playState !== 'running')");
        let result = browser.call_later(
            "const done = arguments[0];
             const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
             axe.run(document, { runOnly: { type: 'tag', values: tags }, resultTypes: ['violations', 'incomplete', 'passes'] })
               .then((it) => done({ violations: it.violations, incomplete: it.incomplete, passes: it.passes.map((rule) => rule.id) }),
                     (problem) => done({ failed: String(problem) }));",
            &[],
        );
        let passes = result["passes"].as_array().unwrap_or_else(|| panic!("{what}: axe failed: {result}"));
        assert!(passes.contains(&json!("color-contrast")) || has_contrast(&result), "{what}: contrast was not checked");
        // What axe cannot decide counts as well, except for text within drawings, which follows.
        let unclear =
            result["incomplete"].as_array().into_iter().flatten().filter(|rule| rule["id"] == "color-contrast");
        for rule in result["violations"].as_array().into_iter().flatten().chain(unclear) {
            let nodes = rule["nodes"].as_array().into_iter().flatten();
            for node in nodes.filter(|node| node["any"][0]["data"]["messageKey"] != "imgNode") {
                found.push(violation(what, theme, rule, node));
            }
        }
        let faint = browser.eval(FAINT);
        let faint = faint.as_array().unwrap_or_else(|| panic!("{what}: {faint}"));
        found.extend(faint.iter().map(|text| format!("{what}, {theme}: contrast in a drawing: {text}")));
    }
}

fn has_contrast(result: &Value) -> bool {
    result["violations"].as_array().into_iter().flatten().any(|rule| rule["id"] == "color-contrast")
}

fn violation(what: &str, theme: &str, rule: &Value, node: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut line = format!("{what}, {theme}: {} ({}): {}", text(&rule["id"]), text(&rule["impact"]), node["target"]);
    for check in ["any", "all", "none"].iter().flat_map(|kind| node[*kind].as_array().into_iter().flatten()) {
        write!(line, "; {}", text(&check["message"])).expect("a string takes all");
    }
    line
}

fn report(found: &[String]) {
    assert!(found.is_empty(), "axe found:\n{}", found.join("\n"));
}

fn fleet(browser: &Browser) -> Kept {
    let (setup, lookout) = start("");
    push_fleet(&lookout);
    let mut found = Vec::new();
    open_live(browser, &lookout.url());
    browser.until_there("#failed .row.l-error");
    check(browser, &mut found, "fleet");
    browser.click("#help-open");
    check(browser, &mut found, "keys");
    browser.click("#help button");
    browser.click("#failed .row button.silence");
    browser.until_text("#silence .preview", "Covers");
    check(browser, &mut found, "silence");
    browser.click("#silence button[value=cancel]");
    browser.press(&['j', ' ']);
    browser.until_there(".peek[open] h1");
    check(browser, &mut found, "peek");
    browser.go(&format!("{}/?wall", lookout.url()));
    check(browser, &mut found, "wall");
    browser.go(&format!("{}/?q=nothing", lookout.url()));
    check(browser, &mut found, "no match");
    report(&found);
    (setup, lookout)
}

fn views(browser: &Browser) -> Kept {
    let (setup, lookout) = start("");
    let alert = push_fleet(&lookout);
    let ids = runs(&lookout);
    let silence = json!({"matchers": {"agent_name": "idle_ida"}, "duration": "1h", "comment": "planned"});
    assert_eq!(lookout.post("/api/silences", &silence).status, 200);
    let mut found = Vec::new();
    for path in [
        "alerts".to_owned(),
        format!("alert?id={alert}"),
        "agent?project=shop&agent=working_wil".to_owned(),
        "agent?project=shop&agent=failing_fay".to_owned(),
        "runs".to_owned(),
        "runs?status=ok".to_owned(),
        format!("run?id={}", ids[0]),
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
