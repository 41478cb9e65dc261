//! Translates names of metrics and attributes into Prometheus names, by OpenTelemetry's rules: characters, units, suffixes.
//!
//! Names that lookout or Prometheus uses get the prefix `otlp_` or `exported_`, so that no sender can write into them.

/// Longest name of a metric or label, in bytes; longer ones are cut.
const MAX_NAME: usize = 200;
/// How much of a metric's name and of its unit is read, in bytes: each word of the unit is searched in the name.
const MAX_NAME_READ: usize = 1_024;
const MAX_UNIT_READ: usize = 64;

/// Units of UCUM and their names in Prometheus.
const UNITS: [(&str, &str); 31] = [
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("kBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("B", "bytes"),
    ("KB", "kilobytes"),
    ("MB", "megabytes"),
    ("GB", "gigabytes"),
    ("TB", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("%", "percent"),
];

/// The same for units after a slash.
const PER_UNITS: [(&str, &str); 7] =
    [("s", "second"), ("m", "minute"), ("min", "minute"), ("h", "hour"), ("d", "day"), ("w", "week"), ("mo", "month")];

/// Prefixes of series that lookout or Prometheus creates.
const RESERVED_PREFIXES: [&str; 5] = ["orchestrator_", "lookout_", "process_", "scrape_", "ALERTS"];
/// Names of series that lookout or Prometheus creates.
const RESERVED_NAMES: [&str; 2] = ["up", "target_info"];

/// Which suffix a metric gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SuffixRule {
    /// `_total`.
    Counter,
    /// `_ratio` if the unit is 1.
    Gauge,
    /// None beyond the unit.
    Other,
}

/// The Prometheus name of the metric `name` with the unit `unit`; empty when the name has no valid character.
pub(super) fn metric(name: &str, unit: &str, rule: SuffixRule) -> String {
    let keep = |letter: char| letter.is_ascii_alphanumeric() || letter == ':';
    let (name, unit) = (truncated(name, MAX_NAME_READ), truncated(unit, MAX_UNIT_READ));
    let mut words: Vec<&str> = name.split(|letter| !keep(letter)).filter(|word| !word.is_empty()).collect();
    if words.is_empty() {
        return String::new();
    }
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let main = clean_unit(expand_unit(main.trim(), &UNITS));
    let per = clean_unit(expand_unit(per.trim(), &PER_UNITS));
    for word in main.split('_').filter(|word| !word.is_empty()) {
        if !words.contains(&word) {
            words.push(word);
        }
    }
    if !per.is_empty() && !words.contains(&per.as_str()) {
        words.extend(["per", per.as_str()]);
    }
    match rule {
        SuffixRule::Counter => {
            words.retain(|word| *word != "total");
            words.push("total");
        }
        SuffixRule::Gauge if unit.trim() == "1" => {
            words.retain(|word| *word != "ratio");
            words.push("ratio");
        }
        SuffixRule::Gauge | SuffixRule::Other => {}
    }
    let suffix = if rule == SuffixRule::Counter { words.pop() } else { None };
    let mut out = words.join("_");
    // A name that is cut keeps its suffix. All characters are ASCII here.
    out.truncate(MAX_NAME);
    if let Some(suffix) = suffix {
        if out.is_empty() {
            out.push_str("otlp");
        }
        out.push('_');
        out.push_str(suffix);
    }
    if out.starts_with(|letter: char| letter.is_ascii_digit()) {
        out.insert(0, '_');
    }
    let reserved = RESERVED_PREFIXES.iter().any(|prefix| out.starts_with(prefix));
    if reserved || RESERVED_NAMES.contains(&out.as_str()) {
        out.insert_str(0, "otlp_");
    }
    out
}

/// `text`, cut to at most `limit` bytes.
fn truncated(text: &str, limit: usize) -> &str {
    let end = (0..=limit.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or_default()).unwrap_or_default()
}

fn expand_unit<'u>(unit: &'u str, words: &[(&'static str, &'static str)]) -> &'u str
where
    'static: 'u,
{
    // Annotations such as `{request}` repeat the name.
    if unit.contains(['{', '}']) || unit == "1" {
        return "";
    }
    words.iter().find(|(short, _)| *short == unit).map_or(unit, |(_, word)| word)
}

fn clean_unit(unit: &str) -> String {
    let words = unit.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("_")
}

/// The label name for the attribute `key`: never empty, and never one that Prometheus sets or histograms use.
pub(super) fn label(key: &str) -> String {
    let mut out: String =
        key.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).take(MAX_NAME).collect();
    if out.starts_with(|letter: char| letter.is_ascii_digit()) {
        out.insert_str(0, "key_");
    } else if out.starts_with('_') || out.is_empty() {
        out.insert_str(0, "key");
    }
    if ["le", "quantile", "job", "instance"].contains(&out.as_str()) {
        out.insert_str(0, "exported_");
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_get_units_and_suffixes_once() {
        use SuffixRule::{Counter, Gauge, Other};
        for (name, unit, rule, expected) in [
            ("http.server.request.duration", "s", Other, "http_server_request_duration_seconds"),
            ("claude_code.token.usage", "tokens", Counter, "claude_code_token_usage_tokens_total"),
            ("claude_code.cost.usage", "USD", Counter, "claude_code_cost_usage_USD_total"),
            ("claude_code.active_time.total", "s", Counter, "claude_code_active_time_seconds_total"),
            ("gen_ai.client.token.usage", "{token}", Other, "gen_ai_client_token_usage"),
            ("shop.context.window.used", "%", Gauge, "shop_context_window_used_percent"),
            ("shop.memory", "MiBy", Gauge, "shop_memory_mebibytes"),
            ("process.cpu.utilization", "1", Gauge, "otlp_process_cpu_utilization_ratio"),
            ("queue", "1", Other, "queue"),
            ("hits", "1", Counter, "hits_total"),
            ("total", "", Counter, "otlp_total"),
            ("langflow_bg_jobs_started_total", "", Counter, "langflow_bg_jobs_started_total"),
            ("db.size_bytes", "By", Gauge, "db_size_bytes"),
            ("network.io", "By/s", Gauge, "network_io_bytes_per_second"),
            ("speed", "m/s", Gauge, "speed_meters_per_second"),
            ("rate", "{req}/s", Gauge, "rate_per_second"),
            ("2xx  count!!", "", Counter, "_2xx_count_total"),
            ("a::b", "", Gauge, "a::b"),
            ("grüße", "", Gauge, "gr_e"),
            ("__x__", "", Gauge, "x"),
            ("…", "s", Gauge, ""),
            ("lookout.source.up", "", Gauge, "otlp_lookout_source_up"),
            ("orchestrator_agent_up", "", Gauge, "otlp_orchestrator_agent_up"),
            ("target.info", "", Gauge, "otlp_target_info"),
            ("up", "", Gauge, "otlp_up"),
        ] {
            assert_eq!(metric(name, unit, rule), expected, "{name} {unit}");
        }
    }

    #[test]
    fn label_names_are_valid() {
        for (key, expected) in [
            ("gen_ai.request.model", "gen_ai_request_model"),
            ("Model Name", "Model_Name"),
            ("0start", "key_0start"),
            ("_private", "key_private"),
            ("__name__", "key__name__"),
            ("", "key"),
            ("größe", "gr__e"),
            ("le", "exported_le"),
            ("job", "exported_job"),
        ] {
            assert_eq!(label(key), expected, "{key}");
        }
    }

    proptest! {
        #[test]
        fn any_name_becomes_a_valid_one(name in any::<String>(), unit in any::<String>(), rule in 0..3_usize) {
            let rule = [SuffixRule::Counter, SuffixRule::Gauge, SuffixRule::Other][rule];
            let metric = metric(&name, &unit, rule);
            let valid = |name: &str, colon: bool| {
                name.chars().all(|it| it.is_ascii_alphanumeric() || it == '_' || colon && it == ':')
                    && !name.starts_with(|it: char| it.is_ascii_digit())
            };
            prop_assert!(valid(&metric, true), "{}", metric);
            prop_assert!(metric.is_empty() || (rule == SuffixRule::Counter) <= metric.ends_with("total"));
            prop_assert!(["orchestrator_", "lookout_", "process_"].iter().all(|own| !metric.starts_with(own)));
            let label = label(&name);
            prop_assert!(valid(&label, false) && !label.starts_with('_') && !label.is_empty(), "{}", label);
        }
    }
}
