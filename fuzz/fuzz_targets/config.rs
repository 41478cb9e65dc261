//! The configuration: YAML from a file, then the environment. A valid configuration is printed and loaded again.

#![no_main]

use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use lookout::config::{Config, ConfigError, ConfigSource, Environment};

fuzz_target!(|input: &[u8]| {
    let (file, variables) = match input.iter().position(|byte| *byte == 0) {
        Some(at) => (&input[..at], String::from_utf8_lossy(&input[at + 1..])),
        None => (input, "".into()),
    };
    let env: Environment = variables.lines().filter_map(|line| line.split_once('=')).collect();
    match load(file, env) {
        Ok(config) => {
            let printed = config.print();
            // Secrets are redacted; everything else must be the same again.
            if let Ok(again) = load(printed.as_bytes(), Environment::default()) {
                assert_eq!(again.print(), printed);
            }
        }
        Err(error) => {
            let text = error.to_string();
            assert!(
                !text.is_empty() && !text.contains(|letter: char| letter.is_control() && letter != '\n'),
                "{text:?}"
            );
        }
    }
});

fn load(text: &[u8], env: Environment) -> Result<Config, ConfigError> {
    let file = path();
    std::fs::write(&file, text).expect("a file in memory");
    ConfigSource { file: Some(file), env }.load()
}

/// A file in memory if there is a directory for that, else a temporary file.
fn path() -> PathBuf {
    let folder = PathBuf::from("/dev/shm");
    let folder = if folder.is_dir() { folder } else { std::env::temp_dir() };
    folder.join(format!("lookout-fuzz-{}.yaml", std::process::id()))
}
