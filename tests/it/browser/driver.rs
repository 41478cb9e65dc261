//! A headless Chromium of its own for one test, driven through chromedriver by WebDriver.
//!
//! All that it writes is in a temporary folder. Every wait is for a condition and bounded. A test that fails says on which
//! page, and what the browser's console had.

use std::fmt::Write as _;
use std::future::Future;
use std::io::{BufRead as _, BufReader};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use fantoccini::actions::{InputSource as _, KeyAction, KeyActions, MouseActions, PointerAction};
use fantoccini::error::CmdError;
use fantoccini::wd::{Capabilities, WebDriverCompatibleCommand};
use fantoccini::{Client, ClientBuilder, Locator};
use http::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use reqwest::Url;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::counterparts::Need;
use crate::program::{PATIENCE, eventually};
use crate::{Case, trial};

/// What each test in a browser needs.
pub(crate) const NEEDS: &[Need] = &[Need::Chromium, Need::Chromedriver];

/// Chromium without a window, whatever machine it is on, and without its own requests.
const ARGUMENTS: [&str; 11] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
    "--force-color-profile=srgb",
    "--window-size=1440,900",
];

/// A test in a browser. A console with errors fails it, too: [`Browser::forgive`] if they are expected. What `run` returns
/// is kept until then.
pub(crate) fn in_browser<T: 'static>(name: &str, needs: &'static [Need], run: fn(&Browser) -> T) -> Case {
    trial(name, needs, move || {
        let browser = Browser::open();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let _kept = run(&browser);
            let mut errors = browser.console().into_iter().filter(|line| line.starts_with("SEVERE"));
            assert_eq!(errors.next(), None, "the console has errors");
        }));
        let Err(cause) = outcome else { return };
        let text = cause.downcast_ref::<String>().map(String::as_str).or_else(|| cause.downcast_ref::<&str>().copied());
        let mut message = text.unwrap_or("the test panicked").to_owned();
        // The browser may be what failed.
        let report = catch_unwind(AssertUnwindSafe(|| (browser.url(), browser.title(), browser.console())));
        if let Ok((url, title, console)) = report {
            write!(message, "\nin the browser: {url}, {title:?}; its console:\n{}", console.join("\n"))
                .expect("a string takes all");
        }
        resume_unwind(Box::new(message));
    })
}

/// A browser with one tab.
pub(crate) struct Browser {
    runtime: Runtime,
    client: Option<Client>,
    driver: Child,
    /// The browser's process, as the driver says.
    process: Option<u32>,
    console: Mutex<Vec<String>>,
    _folder: TempDir,
}

impl Browser {
    fn open() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the browser");
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        // Caches, crash reports and the profile.
        for name in ["HOME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"] {
            command.env(name, folder.path());
        }
        command.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut driver = command.spawn().expect("chromedriver");
        let mut output = BufReader::new(driver.stdout.take().expect("its output"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let port = port(&mut output);
        // What it says later is read, so that it never waits for a reader.
        thread::spawn(move || output.lines().map_while(Result::ok).for_each(drop));
        let mut browser =
            Self { runtime, client: None, driver, process: None, console: Mutex::default(), _folder: folder };
        let profile = format!("--user-data-dir={}", browser._folder.path().join("profile").display());
        let arguments: Vec<&str> = ARGUMENTS.into_iter().chain([&*profile]).collect();
        let capabilities = json!({
            "browserName": "chrome",
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            "timeouts": {"script": 60_000, "pageLoad": 60_000, "implicit": 0},
        });
        let capabilities: Capabilities = capabilities.as_object().expect("an object").clone().into_iter().collect();
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(capabilities);
        let address = format!("http://127.0.0.1:{port}");
        let client = browser.complete(builder.connect(&address)).unwrap_or_else(|error| panic!("Chromium: {error}"));
        let process = client.capabilities().and_then(|found| found.get("goog:processID")?.as_u64());
        browser.process = process.and_then(|id| u32::try_from(id).ok());
        browser.client = Some(client);
        // Off the browser's own start page.
        browser.go("about:blank");
        browser
    }

    fn complete<T>(&self, future: impl Future<Output = T>) -> T {
        let bounded = async { tokio::time::timeout(PATIENCE * 2, future).await };
        self.runtime.block_on(bounded).expect("an answer of the browser in time")
    }

    fn client(&self) -> &Client {
        self.client.as_ref().expect("an open browser")
    }

    fn demand<T>(&self, what: &str, future: impl Future<Output = Result<T, CmdError>>) -> T {
        self.complete(future).unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// Opens a page and waits until it is loaded.
    pub(crate) fn go(&self, url: &str) {
        self.demand(url, self.client().goto(url));
    }

    /// Opens a tab, to which everything goes from then on.
    pub(crate) fn new_tab(&self) {
        let tab = self.demand("a new tab", self.client().new_window(true));
        self.demand("the new tab", self.client().switch_to_window(tab.handle));
    }

    /// Closes all tabs but this one.
    pub(crate) fn close_other_tabs(&self) {
        let own = self.demand("this tab", self.client().window());
        for tab in self.demand("tabs", self.client().windows()).into_iter().filter(|tab| *tab != own) {
            self.demand("another tab", self.client().switch_to_window(tab));
            self.demand("its end", self.client().close_window());
        }
        self.demand("this tab", self.client().switch_to_window(own));
    }

    /// Loads the page again.
    pub(crate) fn reload(&self) {
        self.demand("reload", self.client().refresh());
    }

    pub(crate) fn url(&self) -> String {
        self.eval("return location.href").as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn title(&self) -> String {
        self.demand("the title", self.client().title())
    }

    /// The result of the body of a function.
    pub(crate) fn eval(&self, script: &str) -> Value {
        self.call(script, &[])
    }

    /// The same with `arguments`.
    pub(crate) fn call(&self, script: &str, arguments: &[Value]) -> Value {
        self.demand(script.lines().next().unwrap_or_default(), self.client().execute(script, arguments.to_vec()))
    }

    /// The result that a script passes to its last argument, a function.
    pub(crate) fn call_later(&self, script: &str, arguments: &[Value]) -> Value {
        self.demand(script, self.client().execute_async(script, arguments.to_vec()))
    }

    /// Waits until the body of a function returns something true, and returns it.
    pub(crate) fn until(&self, script: &str) -> Value {
        eventually(script, || {
            // While another page loads there is nothing to run it in.
            let found = self.complete(self.client().execute(script, Vec::new())).ok()?;
            (!matches!(found, Value::Null | Value::Bool(false)) && found != json!("") && found != json!(0))
                .then_some(found)
        })
    }

    /// Waits until an element's text contains this.
    pub(crate) fn until_text(&self, selector: &str, text: &str) {
        let script = format!("return document.querySelector({})?.innerText.includes({})", json!(selector), json!(text));
        self.until(&script);
    }

    /// Waits until there is such an element.
    pub(crate) fn until_there(&self, selector: &str) {
        self.until(&format!("return document.querySelector({}) !== null", json!(selector)));
    }

    /// Waits until there is none.
    pub(crate) fn until_gone(&self, selector: &str) {
        self.until(&format!("return document.querySelector({}) === null", json!(selector)));
    }

    /// The text of an element as it is shown; empty if there is none.
    pub(crate) fn text(&self, selector: &str) -> String {
        let found = self.call("return document.querySelector(arguments[0])?.innerText ?? ''", &[json!(selector)]);
        found.as_str().unwrap_or_default().to_owned()
    }

    /// How many such elements there are.
    pub(crate) fn count(&self, selector: &str) -> u64 {
        self.call("return document.querySelectorAll(arguments[0]).length", &[json!(selector)])
            .as_u64()
            .expect("a number")
    }

    /// Clicks on an element as soon as it is there and nothing covers it; it may be replaced at any moment.
    pub(crate) fn click(&self, selector: &str) {
        let mut last = None;
        let click = async || self.client().find(Locator::Css(selector)).await?.click().await;
        let clicked = eventually_or(|| match self.complete(click()) {
            Ok(()) => Some(()),
            Err(error) => {
                last = Some(error);
                None
            }
        });
        assert!(clicked, "no click on {selector}: {}", last.map_or_else(String::new, |error| error.to_string()));
    }

    /// Types into an element.
    pub(crate) fn type_into(&self, selector: &str, text: &str) {
        let element = self.demand(selector, self.client().find(Locator::Css(selector)));
        self.demand(selector, element.send_keys(text));
    }

    /// Presses keys one after another, wherever the focus is.
    pub(crate) fn press(&self, keys: &[char]) {
        let mut actions = KeyActions::new("keyboard".to_owned());
        for value in keys {
            actions = actions.then(KeyAction::Down { value: *value }).then(KeyAction::Up { value: *value });
        }
        self.demand("keys", self.client().perform_actions(actions));
    }

    /// Moves the pointer to the corner, off all rows.
    pub(crate) fn away(&self) {
        let step = PointerAction::MoveTo { duration: Some(Duration::ZERO), x: 1.0, y: 1.0 };
        self.demand("the pointer", self.client().perform_actions(MouseActions::new("mouse".to_owned()).then(step)));
    }

    /// Sends a command of the DevTools.
    pub(crate) fn devtools(&self, method: &str, parameters: &Value) -> Value {
        let body = json!({"cmd": method, "params": parameters});
        self.demand(method, self.client().issue_cmd(Extension { path: "goog/cdp/execute", body }))
    }

    /// Sets what the system prefers: `dark` or `light`.
    pub(crate) fn prefer(&self, theme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": theme}]});
        self.devtools("Emulation.setEmulatedMedia", &features);
    }

    /// Sets the width of what is visible; a phone is narrower than a window can be.
    pub(crate) fn width(&self, width: u32) {
        let metrics = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 720});
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
    }

    /// The lines of the console so far, with failed requests and violations of the page's policy.
    pub(crate) fn console(&self) -> Vec<String> {
        let body = json!({"type": "browser"});
        let found = self.demand("the console", self.client().issue_cmd(Extension { path: "se/log", body }));
        let mut console = self.console.lock().unwrap();
        for entry in found.as_array().into_iter().flatten() {
            let part = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
            console.push(format!("{} {}: {}", part("level"), part("source"), part("message")));
        }
        console.clone()
    }

    /// Forgets the console so far: what it has is expected. Returns it.
    pub(crate) fn forgive(&self) -> Vec<String> {
        let lines = self.console();
        self.console.lock().unwrap().clear();
        lines
    }

    /// The addresses of all requests since the last call.
    pub(crate) fn requests(&self) -> Vec<String> {
        let body = json!({"type": "performance"});
        let found = self.demand("the network's log", self.client().issue_cmd(Extension { path: "se/log", body }));
        let entries = found.as_array().into_iter().flatten().filter_map(|entry| {
            let event: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let event = &event["message"];
            let is_request =
                ["Network.requestWillBeSent", "Network.webSocketCreated"].iter().any(|it| event["method"] == **it);
            let parameters = &event["params"];
            let url = parameters["request"]["url"].as_str().or_else(|| parameters["url"].as_str())?;
            is_request.then(|| url.to_owned())
        });
        entries.collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            // It may have crashed; then there is nothing to close.
            let close = async { tokio::time::timeout(Duration::from_secs(10), client.close()).await };
            drop(self.runtime.block_on(close));
        }
        let process = self.process.and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(process) = process {
            // It has ended already, as a rule.
            rustix::process::kill_process(process, rustix::process::Signal::KILL).ok();
        }
        drop(self.driver.kill());
        drop(self.driver.wait());
    }
}

/// The port that chromedriver says it listens on.
fn port(output: &mut impl std::io::BufRead) -> u16 {
    let mut lines = output.lines().map_while(Result::ok);
    let port = lines.find_map(|line| {
        let (_, rest) = line.split_once("started successfully on port ")?;
        rest.trim_end_matches('.').parse().ok()
    });
    port.expect("chromedriver listens")
}

/// Whether `probe` returns a value in time.
fn eventually_or(mut probe: impl FnMut() -> Option<()>) -> bool {
    let watch = lookout::clock::Stopwatch::start();
    while watch.elapsed() < PATIENCE {
        if probe().is_some() {
            return true;
        }
        thread::sleep(Duration::from_millis(10));
    }
    false
}

/// A command that chromedriver has in addition to the standard's.
#[derive(Debug)]
struct Extension {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Extension {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, <Url as FromStr>::Err> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.body.to_string()))
    }
}
