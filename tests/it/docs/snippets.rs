//! Every snippet of the documentation, run: configurations through `lookout check`, tests of rules through
//! `lookout test rules`, bodies through the API, and shell commands against a real sidecar.
//!
//! The info string of a code block defines what is tested:
//!
//! | info string | what is done |
//! |---|---|
//! | `sh` | it is run in a folder of its own, with a sidecar at the usual address |
//! | `sh,no-run` | its `lookout` arguments must be ones; the line before it gives the reason: `<!-- no-run: … -->` |
//! | `yaml`, `toml` | a configuration: `lookout check` accepts it |
//! | `yaml,rules`, `yaml,rule-tests` | a rule file that `check` accepts, tests of rules that pass |
//! | `yaml,other`, `yaml,prometheus`, `toml,other` | a file of another program: it can be parsed |
//! | `json` | it can be parsed; with `post=PATH` the sidecar accepts it without rejecting anything |
//! | `text,output` | what the `sh` block before it printed |
//! | `text`, `console`, `promql` | nothing |
//!
//! `file=NAME` is the name by which a block is written into the folder.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser as _;
use lookout::cli::Cli;
use serde_json::{Value, json};

use super::markdown::{Block, blocks};
use super::{pages, text};
use crate::counterparts::{self, Need};
use crate::doubles::sink::Sink;
use crate::program::{Lookout, Setup, eventually};
use crate::{Case, tidy, trial};

/// The programs that commands of the documentation need in addition to a shell.
const NEEDS: &[Need] = &[Need::Curl, Need::Openssl, Need::Sqlite];

/// The address that the documentation names.
const ADDRESS: &str = "http://127.0.0.1:9797";

/// Where the documentation keeps secrets.
const SECRETS: &str = "/run/secrets/";

pub(super) fn trials() -> Vec<Case> {
    let mut trials = vec![
        trial("docs: code blocks have an info string", &[], code_blocks_have_an_info_string),
        trial("docs: commands of lookout have valid arguments", &[], arguments_are_known),
    ];
    for page in pages() {
        if !blocks(&text(&page)).is_empty() {
            let name = format!("docs: snippets of {} run", page.display());
            trials.push(trial(&name, NEEDS, move || run(&page)));
        }
    }
    trials
}

fn code_blocks_have_an_info_string() {
    let mut wrong = Vec::new();
    for page in pages() {
        for block in blocks(&text(&page)) {
            let words: Vec<&str> = block.words.iter().map(|word| word.split('=').next().unwrap_or_default()).collect();
            let is_known = match &*block.language {
                "sh" => words.iter().all(|word| *word == "no-run"),
                "yaml" => {
                    words.iter().all(|word| ["rules", "rule-tests", "other", "prometheus", "file"].contains(word))
                }
                "toml" => words.iter().all(|word| ["other", "file"].contains(word)),
                "json" => words.iter().all(|word| *word == "post"),
                "text" => words.iter().all(|word| *word == "output"),
                "console" | "promql" => words.is_empty(),
                _ => false,
            };
            let place = format!("{}:{}", page.display(), block.line);
            if !is_known {
                wrong.push(format!("{place}: `{},{}` is not known", block.language, block.words.join(",")));
            }
            let reason = block.before.strip_prefix("<!-- no-run: ").and_then(|rest| rest.strip_suffix(" -->"));
            if block.has("no-run") != reason.is_some_and(|reason| !reason.is_empty()) {
                wrong.push(format!("{place}: `no-run` and the line `<!-- no-run: why -->` belong together"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn arguments_are_known() {
    let mut wrong = Vec::new();
    let mut found = 0;
    for page in pages() {
        for block in blocks(&text(&page)) {
            let script = match &*block.language {
                "sh" => block.text.clone(),
                "console" => {
                    block.text.lines().filter_map(|line| line.strip_prefix("$ ")).collect::<Vec<_>>().join("\n")
                }
                _ => continue,
            };
            for arguments in calls(&script) {
                found += 1;
                if let Err(error) = Cli::try_parse_from(&arguments)
                    && error.use_stderr()
                {
                    wrong.push(format!("{}:{}: {}\n{error}", page.display(), block.line, arguments.join(" ")));
                }
            }
        }
    }
    assert!(found > 50, "calls are found: {found}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The calls of lookout in a script: the words of each, its name first.
fn calls(script: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for command in commands(script) {
        let is_variable = |word: &&String| {
            word.split_once('=').is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        };
        let words: Vec<String> = command.iter().skip_while(is_variable).cloned().collect();
        match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["lookout", ..] => found.push(words),
            ["cargo", "run", "--release", ref rest @ ..] => {
                let rest = rest.iter().copied().skip_while(|word| *word == "--");
                found.push(std::iter::once("lookout").chain(rest).map(str::to_owned).collect());
            }
            _ => {}
        }
    }
    found
}

/// The simple commands of a script, each as its words; as far as the documentation's scripts need it.
fn commands(script: &str) -> Vec<Vec<String>> {
    let mut found = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut quote = None;
    let script = script.replace("\\\n", " ");
    let mut letters = script.chars().peekable();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(letter),
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => while letters.next_if(|letter| *letter != '\n').is_some() {},
            (None, ' ' | '\n' | '|' | ';' | '&') => {
                if let (Some(word), Some(command)) = (word.take(), found.last_mut()) {
                    command.push(word);
                }
                if letter != ' ' {
                    found.push(Vec::new());
                }
            }
            // The rest of the line goes elsewhere.
            (None, '>' | '<') => {
                if word.as_deref().is_some_and(|word| word.chars().all(|c| c.is_ascii_digit())) {
                    word = None;
                }
                while letters.next_if(|letter| !"\n|;".contains(*letter)).is_some() {}
            }
            (None, _) => word.get_or_insert_default().push(letter),
        }
    }
    if let (Some(word), Some(command)) = (word, found.last_mut()) {
        command.push(word);
    }
    found.retain(|command| !command.is_empty());
    found
}

/// A page's folder, with a sidecar that runs in it and a stand-in for each program that its commands name.
struct Stage {
    setup: Setup,
    lookout: Lookout,
    _sink: Sink,
}

impl Stage {
    fn new() -> Self {
        let sink = Sink::start();
        let webhook = format!("webhook: {{url: \"http://{}/hook\"}}", sink.http);
        let receivers = ["ops", "oncall", "automation", "alertmanager", "phones", "team"]
            .map(|name| format!("  - {{name: {name}, {webhook}}}\n"))
            .concat();
        let config = format!("receivers:\n{receivers}");
        let setup = Setup::new("").arguments(&["run", "--config", "sidecar.yaml"]);
        setup.write("lookout.yaml", &config);
        let head = "listen: 127.0.0.1:0\nlog: {format: json}\nrecord: {path: state.record}\n";
        setup.write("sidecar.yaml", &format!("{head}{config}"));
        setup.write("new.yaml", "rules:\n  - {name: AgentIdle, enabled: false}\n");
        let lookout = setup.start();
        lookout.post(
            "/api/state",
            &json!({"project": "shop", "agents": [
                {"name": "builder", "type": "claude-code", "status": "running", "task_id": "t1"},
                {"name": "worker-1", "status": "failed", "reason": "out of memory", "task_id": "t2"}]}),
        );
        eventually("an alert fires", || (lookout.get("/api/alerts").json()["total"] != 0).then_some(()));
        let stage = Self { setup, lookout, _sink: sink };
        stage.programs();
        stage
    }

    /// Writes the programs that commands call: lookout itself, which checks instead of running on, and agents.
    fn programs(&self) {
        let bin = self.setup.path().join("bin");
        std::fs::create_dir(&bin).expect("a folder");
        let real = env!("CARGO_BIN_EXE_lookout");
        let lookout = format!(
            "case \"${{1:-run}}\" in\nrun | demo | --config)\n  config=\n  \
             while [ $# -gt 0 ]; do [ \"$1\" != --config ] || config=$2; shift; done\n  \
             exec '{real}' check ${{config:+--config \"$config\"}} ;;\nesac\nexec '{real}' \"$@\"\n"
        );
        let path = std::env::var("PATH").expect("a path");
        let sample = |name: &str| {
            let file = tidy::root().join("tests/it/samples/stream").join(name);
            format!("exec cat '{}'\n", file.display())
        };
        for (name, script) in [
            ("bin/lookout", lookout),
            ("bin/cargo", "[ \"$1\" != run ] || { shift 2; [ $# = 0 ] || shift; exec lookout \"$@\"; }\n".to_owned()),
            ("bin/curl", format!("PATH='{path}' exec curl -S --fail-with-body \"$@\"\n")),
            ("bin/claude", sample("claude-code-tool.jsonl")),
            ("bin/codex", sample("codex-tool.jsonl")),
            ("bin/gemini", "echo '{\"response\": \"done\", \"stats\": {}}'\n".to_owned()),
            ("any-agent", "echo 'used 1,200 tokens'; echo 'Allow rm? [y/N]'\n".to_owned()),
        ] {
            let file = self.setup.write(name, &format!("#!/bin/sh\n{script}"));
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("a program");
        }
    }

    /// What a script printed.
    fn run(&self, script: &str, place: &str) -> String {
        let path = format!("{}/bin:{}", self.setup.path().display(), std::env::var("PATH").expect("a path"));
        let script = script.replace(ADDRESS, &self.lookout.url());
        let output = Command::new("sh")
            .args(["-euc", &script])
            .current_dir(self.setup.path())
            .env_clear()
            .env("PATH", path)
            .env("USER", "ann")
            .env("LOOKOUT_URL", self.lookout.url())
            .env("LOOKOUT_CONFIG", "lookout.yaml")
            .stdin(std::process::Stdio::null())
            .output()
            .expect("a shell");
        let printed = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{place} ended with {}:\n{script}\n{printed}", output.status);
        printed
    }

    /// Has `lookout check` look at the configuration in `file`.
    fn check(&self, file: &Path, place: &str) {
        let mut command = self.setup.command(&["check", "--config", &file.display().to_string()]);
        let output = command.env("LOOKOUT_LISTEN", "127.0.0.1:0").output().expect("the program");
        let printed = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{place}: lookout check:\n{printed}");
    }

    /// Writes the files of a block, and the secrets that it names; its own file.
    fn write(&self, block: &Block, number: usize) -> PathBuf {
        for rest in block.text.split(SECRETS).skip(1) {
            let name: String = rest.chars().take_while(|letter| !"\"', }\n".contains(*letter)).collect();
            // A word that every reader of a secret accepts, and no two secrets are the same.
            let is_database = block.text.contains("mysql:");
            let scheme = if is_database { "mysql" } else { "https" };
            self.setup.write(&name, &format!("{scheme}://chat.example.com/hooks/{name}"));
        }
        if block.text.contains("cert.pem") {
            let arguments = "req -x509 -days 2 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=a -keyout key.pem -out cert.pem";
            counterparts::run(Command::new("openssl").args(arguments.split(' ')).current_dir(self.setup.path()));
        }
        let extension = &block.language;
        let name = block.value("file").map_or_else(|| format!("shown-{number}.{extension}"), str::to_owned);
        self.setup.write(&name, &block.text.replace(SECRETS, ""))
    }
}

fn run(page: &Path) {
    let all = blocks(&text(page));
    let stage = Stage::new();
    let is_file = |block: &&Block| ["yaml", "toml"].contains(&&*block.language);
    let files: Vec<(usize, PathBuf)> =
        all.iter().filter(is_file).map(|block| (block.line, stage.write(block, block.line))).collect();
    let mut printed = String::new();
    for block in &all {
        let place = format!("{}:{}", page.display(), block.line);
        let file = files.iter().find(|(line, _)| *line == block.line).map(|(_, file)| file.as_path());
        match (&*block.language, file) {
            ("sh", _) if !block.has("no-run") => printed = stage.run(&block.text, &place),
            ("yaml", _) if block.has("other") || block.has("prometheus") => {
                serde_saphyr::from_str::<Value>(&block.text).unwrap_or_else(|error| panic!("{place}: {error}"));
            }
            ("yaml", Some(file)) if block.has("rules") => {
                let config = stage.setup.write("rules.config.yaml", &format!("rules: [\"{}\"]\n", file.display()));
                stage.check(&config, &place);
            }
            ("yaml", Some(file)) if block.has("rule-tests") => {
                let output = stage.setup.command(&["test", "rules", &file.display().to_string()]).output();
                let output = output.expect("the program");
                assert!(output.status.success(), "{place}: {}", String::from_utf8_lossy(&output.stdout));
            }
            ("toml", _) if block.has("other") => {
                toml::de::DeTable::parse(&block.text).unwrap_or_else(|error| panic!("{place}: {error}"));
            }
            ("yaml" | "toml", Some(file)) => stage.check(file, &place),
            ("json", _) => {
                let body: Value = serde_json::from_str(&block.text).unwrap_or_else(|error| panic!("{place}: {error}"));
                let Some(path) = block.value("post") else { continue };
                let answer = stage.lookout.post(path, &body);
                assert!((200..300).contains(&answer.status), "{place}: {} {}", answer.status, answer.text());
                assert!(!answer.text().contains("rejected"), "{place}: {}", answer.text());
            }
            ("text", _) if block.has("output") => assert_eq!(printed, block.text, "{place}"),
            _ => {}
        }
    }
}
