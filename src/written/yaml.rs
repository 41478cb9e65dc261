//! Parses YAML into figment's values with the position of each, and prints YAML.
//!
//! Uses the core schema of YAML 1.2, with `<<` for merging. Duplicate keys, a second document, and aliases that expand beyond
//! a limit are errors. Errors never quote a line, which may contain a secret.

use std::fmt;

use figment::value::{Dict, Empty, Num, Tag, Value};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::Serialize;
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{
    DefaultMessageFormatter, Error, Location, MessageFormatter, NonFiniteFloatPolicy, Options, Spanned,
};

use super::document::{Document, Places, duplicate_key};
use crate::model::Position;
use crate::text::clean;

/// Maximum number of values and bytes of text after expanding aliases, so that a short file cannot expand to a large tree.
const MAX_COPIES: usize = 100_000;
const MAX_TEXT: usize = 4 * 1024 * 1024;
/// Maximum nesting depth after expanding aliases; each level takes stack space.
const MAX_DEPTH: usize = 32;

/// Parses `text`. The error has line and column.
pub(crate) fn parse(text: &str) -> Result<Document, String> {
    let read: Spanned<YamlNode> =
        serde_saphyr::from_str_with_options(text, options()).map_err(|error| located(&error))?;
    Document::read(|places| value(read.value, places))
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_total_scalar_bytes: MAX_TEXT,
            // Large files may have many values and many aliases of one anchor.
            max_nodes: 1_000_000,
            max_aliases: MAX_COPIES,
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_COPIES },
        // `yes` and `no` are text, as in YAML 1.2.
        strict_booleans: true,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
    }
}

fn located(error: &Error) -> String {
    let place = error.location().map_or(Position { line: 1, column: 1 }, place);
    format!("{place}: {}", message(error.without_snippet()))
}

fn message(error: &Error) -> String {
    match error {
        Error::AliasError { error, .. } => message(error),
        Error::DuplicateMappingKey { key, .. } => duplicate_key(key.as_deref().unwrap_or_default()),
        Error::MultipleDocuments { .. } => "more than one document; keep one".to_owned(),
        Error::MergeValueNotMapOrSeqOfMaps { .. } => "`<<` merges keys and values, or a list of them".to_owned(),
        Error::RecursiveReferencesRequireWeakTypes { .. } => "an alias refers to a value that contains it".to_owned(),
        Error::Unexpected { expected: "string scalar", .. } => "a key must be a scalar".to_owned(),
        Error::AliasReplayLimitExceeded { .. } | Error::AliasReplayStackDepthExceeded { .. } => {
            format!("aliases expand to more than {MAX_COPIES} values")
        }
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => {
            format!("nested more than {MAX_DEPTH} levels deep")
        }
        Error::Budget { .. } => "too large, or its aliases expand to too much; simplify the file".to_owned(),
        other => clean(&DefaultMessageFormatter.format_message(other), 200).into_owned(),
    }
}

fn place(location: Location) -> Position {
    Position { line: location.line(), column: location.column() }
}

fn value(node: YamlNode, places: &mut Places) -> Value {
    match node {
        YamlNode::Scalar(value) => value,
        YamlNode::List(items) => {
            let items = items.into_iter().enumerate().map(|(at, item)| {
                places.beneath(at.to_string(), place(item.referenced), |places| value(item.value, places))
            });
            Value::Array(Tag::Default, items.collect())
        }
        YamlNode::Map(entries) => {
            let entries = entries.into_iter().map(|(key, item)| {
                let name = key.value.clone();
                let item = places.beneath(name, place(key.referenced), |places| value(item.value, places));
                (key.value, item)
            });
            Value::Dict(Tag::Default, entries.collect::<Dict>())
        }
    }
}

/// A value as parsed by serde-saphyr.
enum YamlNode {
    Scalar(Value),
    List(Vec<Spanned<YamlNode>>),
    Map(Vec<(Spanned<String>, Spanned<YamlNode>)>),
}

impl<'de> Deserialize<'de> for YamlNode {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = YamlNode;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<YamlNode, E> {
        Ok(YamlNode::Scalar(Value::Empty(Tag::Default, Empty::Unit)))
    }

    fn visit_bool<E>(self, flag: bool) -> Result<YamlNode, E> {
        Ok(YamlNode::Scalar(flag.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<YamlNode, E> {
        Ok(YamlNode::Scalar(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<YamlNode, E> {
        Ok(YamlNode::Scalar(Value::Num(Tag::Default, whole(number))))
    }

    /// Integers with a leading zero arrive as floats.
    fn visit_f64<E>(self, number: f64) -> Result<YamlNode, E> {
        const EXACT: f64 = (1_u64 << f64::MANTISSA_DIGITS) as f64;
        let is_whole = number.fract() == 0.0 && number.abs() < EXACT;
        let number = if is_whole { whole(number as i64) } else { Num::F64(number) };
        Ok(YamlNode::Scalar(Value::Num(Tag::Default, number)))
    }

    fn visit_str<E>(self, text: &str) -> Result<YamlNode, E> {
        Ok(YamlNode::Scalar(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut input: A) -> Result<YamlNode, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = input.next_element()? {
            items.push(item);
        }
        Ok(YamlNode::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut input: A) -> Result<YamlNode, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = input.next_entry()? {
            entries.push(entry);
        }
        Ok(YamlNode::Map(entries))
    }
}

fn whole(number: i64) -> Num {
    u64::try_from(number).map_or(Num::I64(number), Num::U64)
}

/// Parses the value of an environment variable: a plain word, a list, a map or quoted text as in YAML, so that `5` is a
/// number and `null` is null. Everything else is text.
pub(crate) fn of_variable(raw: &str) -> Value {
    let text = raw.trim();
    let is_structure = text.starts_with(['[', '{', '"', '\'']);
    let is_word = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-._~".contains(&byte));
    match parse(text) {
        Ok(document) if is_structure => document.value,
        Err(_) if is_structure => Value::from(raw),
        Ok(Document { value: value @ (Value::Bool(..) | Value::Num(..) | Value::Empty(..)), .. }) if is_word => value,
        _ => Value::from(text),
    }
}

/// Prints `value` as YAML in block style, with quotes only where necessary.
pub(crate) fn print(value: &impl Serialize) -> Result<String, String> {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    serde_saphyr::to_string_with_options(value, options).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    use super::*;

    fn read(text: &str) -> String {
        parse(text).expect(text).value.deserialize::<serde_json::Value>().expect("JSON").to_string()
    }

    #[test]
    fn scalars_follow_the_core_schema() {
        for (text, expected) in [
            ("", "null"),
            ("# nothing", "null"),
            ("a:", r#"{"a":null}"#),
            ("[~, null, true, FALSE, yes, no, on]", r#"[null,null,true,false,"yes","no","on"]"#),
            ("[1, -2, +3, 0x1f, 0o17, 017, 1_000]", "[1,-2,3,31,15,17,1000]"),
            ("[1.5, -2e3, .5, 1., .nan, .inf, -.inf]", "[1.5,-2000,0.5,1,null,null,null]"),
            ("[inf, nan, e, 1e, '1', \"2\", !!str 3, 0x, 0x-1]", r#"["inf","nan","e","1e","1","2","3","0x","0x-1"]"#),
            ("[18446744073709551615, 18446744073709551616]", "[18446744073709551615,1.8446744073709552e+19]"),
            ("a: |\n  x\n  y\nb: >\n  x\n  y\n", r#"{"a":"x\ny\n","b":"x y\n"}"#),
            ("1: a\ntrue: b\n5m: c", r#"{"1":"a","5m":"c","true":"b"}"#),
            ("---\na: 1\n...\n", r#"{"a":1}"#),
            ("[5m, 2026-11-21, 127.0.0.1:9797, a: b]", r#"["5m","2026-11-21","127.0.0.1:9797",{"a":"b"}]"#),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn aliases_and_merges_are_expanded() {
        assert_eq!(read("a: &x [1, &y 2]\nb: *x\nc: *y"), r#"{"a":[1,2],"b":[1,2],"c":2}"#);
        let text = "base: &b {x: 1, y: 2}\nmore: &m {y: 3, z: 4}\none: {<<: *b, y: 9}\nboth: {<<: [*b, *m]}";
        let expected = r#"{"base":{"x":1,"y":2},"both":{"x":1,"y":2,"z":4},"more":{"y":3,"z":4},"one":{"x":1,"y":9}}"#;
        assert_eq!(read(text), expected);
        assert_eq!(read("{'<<': 3, \"<<\\x20\": 4}"), r#"{"<<":3,"<< ":4}"#, "in quotes it is a key");
    }

    #[test]
    fn errors_have_a_position() {
        for (text, expected) in [
            ("a: 1\na: 2", "line 2, column 1: duplicate key `a`: keep one"),
            ("1: a\n'1': b", "line 2, column 1: duplicate key `1`: keep one"),
            ("a: 1\n---\nb: 2", "line 3, column 1: more than one document; keep one"),
            ("? [a]\n: b", "line 1, column 3: a key must be a scalar"),
            ("a: {<<: 3}", "line 1, column 9: `<<` merges keys and values, or a list of them"),
            ("&x [*x]", "line 1, column 5: an alias refers to a value that contains it"),
        ] {
            assert_eq!(parse(text).expect_err(text), expected, "{text}");
        }
        for text in ["a: [", "\"", "a: b: c", "*x", "\tx: [\n", "a: 'hunter2", "{", "%YAML 9\n", "- a\nb"] {
            let error = parse(text).expect_err(text);
            assert!(
                error.starts_with("line ") && !error.contains("hunter2") && !error.contains('\n'),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn a_short_file_cannot_expand_to_a_large_tree() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..30 {
            let before = level - 1;
            text += &format!("a{level}: &a{level} [{}]\n", vec![format!("*a{before}"); 10].join(", "));
        }
        assert!(parse(&text).expect_err("too many").contains("expand to more than 100000 values"));
        let long = "x".repeat(10_000);
        for text in [format!("a: &a {long}\n"), format!("a: &a {{? {long} : 1}}\n")] {
            let text = format!("{text}b: [{}*a]", "*a, ".repeat(10_000));
            assert!(parse(&text).expect_err("too much text").contains("its aliases expand to too much"));
        }
        let many = format!("a: &a {{x: 1}}\nb: [{}*a]", "*a, ".repeat(5_000));
        parse(&many).expect("a reasonable number of aliases");
        let nested = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        parse(&nested(MAX_DEPTH)).expect("deep enough");
        assert!(parse(&nested(MAX_DEPTH + 1)).expect_err("too deep").ends_with("more than 32 levels deep"));
        let level = |level| format!("a{}: &a{} {{x: [*a{level}]}}\n", level + 1, level + 1);
        let by_aliases: String = (0..20).map(level).collect();
        parse(&format!("a0: &a0 x\n{by_aliases}")).expect_err("too deep by its aliases");
        for deep in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000)] {
            parse(&deep).expect_err("too deep");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_parsed_or_rejected(text in "[-a-z0-9:{}\\[\\],&*!|>'\"#%@`?~<\\n\\t .]{0,60}") {
            match parse(&text) {
                // Parsed values can be printed and parsed again.
                Ok(document) => {
                    if let Ok(json) = document.value.deserialize::<serde_json::Value>() {
                        let again = print(&json).expect("it can be printed");
                        let read = parse(&again).map(|document| document.value.deserialize::<serde_json::Value>().ok());
                        prop_assert_eq!(read, Ok(Some(json)), "{:?} as {:?}", text, again);
                    }
                }
                Err(error) => {
                    let place = error.strip_prefix("line ").and_then(|rest| rest.split_once(", column "));
                    let line = place.and_then(|(line, _)| line.parse::<usize>().ok());
                    prop_assert!(line.is_some_and(|line| (1..=text.split('\n').count() + 1).contains(&line)), "{}", error);
                    prop_assert!(!error.contains(['\n', '\t']), "{:?}", error);
                }
            }
        }

        #[test]
        fn printed_values_parse_to_the_same(value in any_json()) {
            let text = print(&value).expect("YAML");
            let read: Json = parse(&text).expect(&text).value.deserialize().expect("JSON");
            prop_assert_eq!(read, value, "{}", text);
        }
    }

    #[test]
    fn yaml_is_printed_in_block_style() {
        let value = json!({
            "a": "127.0.0.1:9797", "b": [], "c": {}, "d": null, "e": 1.5,
            "f": ["x", {"a": "***", "b": {"c": "12"}}, [1, [2]], {}, []],
            "g": {"h": "a: b", "i": "line\nline", "j": ["k"]},
        });
        let expected = "a: 127.0.0.1:9797\nb: []\nc: {}\nd: null\ne: 1.5\nf:\n- x\n- a: \"***\"\n  b:\n    c: \"12\"\n\
                        - - 1\n  - - 2\n- {}\n- []\ng:\n  h: \"a: b\"\n  i: \"line\\nline\"\n  j:\n  - k\n";
        assert_eq!(print(&value).expect("YAML"), expected);
    }

    #[test]
    fn special_characters_are_escaped() {
        let value = json!({"a\u{7f}": "\u{80}\u{85}\u{9f}\u{fffe}\u{ffff}", "b": "...", "<<": 1});
        let text = print(&value).expect("YAML");
        let expected = "\"<<\": 1\n\"a\\x7F\": \"\\x80\\N\\x9F\\uFFFE\\uFFFF\"\nb: \"...\"\n";
        assert_eq!(text, expected);
        assert_eq!(parse(&text).expect(&text).value.deserialize(), Ok(value));
        assert_eq!(print(&"...").expect("YAML"), "\"...\"\n", "else it would end the document");
    }

    fn any_json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            "[ -\u{a0}é🦀\\n\\t\"\u{85}\u{2028}\u{feff}-\u{ffff}]{0,12}".prop_map(Json::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
                prop::collection::btree_map("([ -\u{a0}]{1,6}|<<)", inner, 0..4)
                    .prop_map(|map| Json::Object(map.into_iter().collect())),
            ]
        })
    }
}
