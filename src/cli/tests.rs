//! Parsing of command lines.

use clap::CommandFactory as _;
use clap::error::ErrorKind;

use super::*;

fn parse(line: &str) -> Result<Cli, ErrorKind> {
    Cli::try_parse_from(line.split_whitespace()).map_err(|error| error.kind())
}

#[test]
fn the_command_definitions_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn no_command_runs_the_sidecar() {
    let cli = parse("lookout --config a.yaml").expect("valid");
    assert!(cli.command.is_none());
    assert_eq!(cli.run.config.config, Some(PathBuf::from("a.yaml")));
    let Some(Command::Run(args)) = parse("lookout run --config a.yaml").expect("valid").command else { panic!("run") };
    assert_eq!(args.config.config, Some(PathBuf::from("a.yaml")));
}

#[test]
fn every_command_accepts_its_arguments() {
    for line in [
        "lookout",
        "lookout demo --agents 40 --config a.yaml",
        "lookout check --config a.yaml --print",
        "lookout test notify --receiver ops",
        "lookout test rules a.test.yaml b.test.yaml --junit out.xml",
        "lookout run --record a.record",
        "lookout replay a.record --rules a.yaml --rules b.yaml --config c.yaml --store lookout.db --within 1m --all --json",
        "lookout replay a.record --store lookout.db",
        "lookout export prometheus-rules --config a.yaml",
        "lookout status --url http://127.0.0.1:1 --token-file t --json",
        "lookout alerts --level error --state firing --agent a --rule R --limit 5",
        "lookout agents --project shop --status waiting_question",
        "lookout health --url http://127.0.0.1:1",
        "lookout pipe --agent a",
        "lookout pipe --agent a --project p --type t --task 7 --format codex --resumed --quiet --token-file f --url h:1",
        "lookout pipe --agent a --format text --pattern failed=^panic --pattern tokens.input=in:([0-9]+) --config a.yaml",
        "lookout setup claude-code --agent builder --project shop --host watch.example.com --config a.yaml",
    ] {
        assert!(parse(line).is_ok(), "{line}");
    }
}

#[test]
fn wrong_usage_is_rejected() {
    for (line, kind) in [
        ("lookout fly", ErrorKind::InvalidSubcommand),
        ("lookout --config a status", ErrorKind::ArgumentConflict),
        ("lookout test", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
        ("lookout replay a.record", ErrorKind::MissingRequiredArgument),
        ("lookout test rules", ErrorKind::MissingRequiredArgument),
        ("lookout alerts --level bad", ErrorKind::InvalidValue),
        ("lookout alerts --limit 0", ErrorKind::ValueValidation),
        ("lookout agents --status asleep", ErrorKind::InvalidValue),
        ("lookout pipe", ErrorKind::MissingRequiredArgument),
        ("lookout pipe --agent a --format xml", ErrorKind::InvalidValue),
        ("lookout pipe --agent a --pattern fialed=x", ErrorKind::ValueValidation),
        ("lookout pipe --agent a --pattern tokens.input=[0-9]+", ErrorKind::ValueValidation),
        ("lookout pipe --agent \u{7}", ErrorKind::ValueValidation),
        ("lookout setup emacs", ErrorKind::InvalidValue),
        ("lookout setup codex --agent a;b", ErrorKind::ValueValidation),
        ("lookout demo --agents 0", ErrorKind::ValueValidation),
        ("lookout --version", ErrorKind::DisplayVersion),
        ("lookout --help", ErrorKind::DisplayHelp),
    ] {
        assert_eq!(parse(line).expect_err(line), kind, "{line}");
    }
}

#[test]
fn the_config_option_wins_over_the_variable() {
    let env: Environment = [("LOOKOUT_CONFIG", "env.yaml")].into_iter().collect();
    let named = ConfigArgs { config: Some("arg.yaml".into()) };
    assert_eq!(named.source(&env).file, Some(PathBuf::from("arg.yaml")));
    assert_eq!(ConfigArgs::default().source(&env).file, Some(PathBuf::from("env.yaml")));
    assert_eq!(ConfigArgs::default().source(&Environment::default()).file, None);
}
