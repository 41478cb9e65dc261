//! YAML as a tree of values, by YAML 1.2's core schema, with `<<` to merge.
//!
//! The parser is a crate's; made into a tree here, since a deserialiser for YAML, generic over each type that is read,
//! was a twentieth of the program. Refuses keys that are given twice, a second document, aliases that grow beyond a bound,
//! and to quote a line in an error: it may hold a secret.

use std::collections::BTreeMap;

use granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError};

use super::tree::{Map, Value};

/// Most values that anchors and aliases may stand for, so that a short file can't make a large tree.
const MAX_COPIES: usize = 100_000;
/// So many bytes of text, or of a key, count as one value more.
const LONG_TEXT: usize = 64;

/// What is wrong, and where.
type Mistake = (Marker, String);

/// The tree that `text` says; the error has the line and the column.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    let parser = Parser::new_from_str_with_options(text, granit_parser::options! { emit_comments: false });
    let mut composer = Composer { parser, anchors: BTreeMap::new(), copies: 0 };
    composer.document().map_err(|(at, message)| located(at.line() as u64, at.col() as u64 + 1, &message))
}

/// A message about a line and a column.
pub(crate) fn located(line: u64, column: u64, message: &str) -> String {
    format!("line {line}, column {column}: {message}")
}

struct Composer<'t> {
    parser: Parser<'t, granit_parser::StrInput<'t>>,
    anchors: BTreeMap<usize, (Value, usize)>,
    copies: usize,
}

impl<'t> Composer<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Marker), Mistake> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, span.start)),
            Some(Err(error)) => Err(mistake(&error)),
            None => Ok((Event::StreamEnd, Marker::new(0, 1, 0))),
        }
    }

    /// The one document; null when there is none.
    fn document(&mut self) -> Result<Value, Mistake> {
        let mut tree = None;
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(tree.unwrap_or(Value::Null)),
                (Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd, _) => {}
                (_, at) if tree.is_some() => return Err((at, "a second document begins; keep one".to_owned())),
                (event, at) => tree = Some(self.node(event, at)?.0),
            }
        }
    }

    /// The node that begins with `event`, and of how many values it is made.
    fn node(&mut self, event: Event<'t>, at: Marker) -> Result<(Value, usize), Mistake> {
        let (anchor, node) = match event {
            Event::Alias(id) => {
                // An alias within what it stands for is not known yet.
                let Some((value, size)) = self.anchors.get(&id).cloned() else {
                    return Err((at, "an alias stands for what it is part of".to_owned()));
                };
                self.copy(size, at)?;
                return Ok((value, size));
            }
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = style != ScalarStyle::Plain || tag.is_some_and(|tag| tag.core_suffix() == Some("str"));
                let size = 1 + text.len() / LONG_TEXT;
                (anchor, (if is_text { Value::Text(text.into_owned()) } else { plain(&text) }, size))
            }
            Event::SequenceStart(_, anchor, _) => (anchor, self.sequence()?),
            Event::MappingStart(_, anchor, _) => (anchor, self.mapping()?),
            _ => return Err((at, "a value is missing".to_owned())),
        };
        if anchor > 0 {
            self.copy(node.1, at)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn copy(&mut self, size: usize, at: Marker) -> Result<(), Mistake> {
        self.copies += size;
        let message = || format!("anchors and aliases stand for more than {MAX_COPIES} values");
        if self.copies > MAX_COPIES { Err((at, message())) } else { Ok(()) }
    }

    fn sequence(&mut self) -> Result<(Value, usize), Mistake> {
        let (mut items, mut size) = (Vec::new(), 1);
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok((Value::List(items), size)),
                (event, at) => {
                    let (item, of_item) = self.node(event, at)?;
                    items.push(item);
                    size += of_item;
                }
            }
        }
    }

    fn mapping(&mut self) -> Result<(Value, usize), Mistake> {
        let (mut tree, mut size) = (Map::new(), 1);
        let mut merged = Vec::new();
        loop {
            let (event, at) = self.next()?;
            let (key, is_merge) = match event {
                Event::MappingEnd => break,
                // In quotes it is a key like any other.
                Event::Scalar(key, style, ..) => {
                    let is_merge = style == ScalarStyle::Plain && key == "<<";
                    (key.into_owned(), is_merge)
                }
                _ => return Err((at, "a key is one word".to_owned())),
            };
            let (event, value_at) = self.next()?;
            let (value, of_value) = self.node(event, value_at)?;
            size += of_value + key.len() / LONG_TEXT;
            if is_merge {
                merged.push((value, value_at));
            } else if tree.insert(key.clone(), value).is_some() {
                return Err((at, format!("key `{}` is given twice; keep one", crate::text::clean(&key, 100))));
            }
        }
        // What is said here counts before what is merged, and what is merged first before what is merged later.
        for (value, at) in merged {
            let trees = match value {
                Value::List(trees) => trees,
                one => vec![one],
            };
            for merged in trees {
                let Value::Map(merged) = merged else {
                    return Err((at, "`<<` merges keys and values, or a list of them".to_owned()));
                };
                for (key, value) in merged {
                    tree.entry(key).or_insert(value);
                }
            }
        }
        Ok((Value::Map(tree), size))
    }
}

fn mistake(error: &ScanError) -> Mistake {
    let kind = error.kind().to_string();
    let line = kind.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    (*error.marker(), line)
}

/// What a word without quotes means. `yes` and `no` are text: a project may be named so.
pub(crate) fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        _ => {}
    }
    let radix =
        [("0x", 16), ("0o", 8)].into_iter().find_map(|(prefix, radix)| Some((text.strip_prefix(prefix)?, radix)));
    let whole = match radix {
        Some((digits, radix)) if !digits.starts_with(['+', '-']) => {
            u64::from_str_radix(digits, radix).ok().map(Value::Unsigned)
        }
        Some(_) => None,
        None => text.parse().map(Value::Unsigned).or_else(|_| text.parse().map(Value::Signed)).ok(),
    };
    // Words that Rust reads as numbers and YAML does not, such as `inf`, have letters other than an exponent's.
    let looks_decimal = || {
        text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E'))
            && text.bytes().any(|byte| byte.is_ascii_digit())
    };
    let any = whole.or_else(|| if looks_decimal() { text.parse().map(Value::Float).ok() } else { None });
    any.unwrap_or_else(|| Value::Text(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> String {
        let tree: serde_json::Value = parse(text).expect(text).read().expect("a tree");
        tree.to_string()
    }

    #[test]
    fn scalars_are_those_of_the_core_schema() {
        for (text, expected) in [
            ("", "null"),
            ("# nothing", "null"),
            ("a:", r#"{"a":null}"#),
            ("[~, null, true, FALSE, yes, no, on]", r#"[null,null,true,false,"yes","no","on"]"#),
            ("[1, -2, +3, 0x1f, 0o17, 017, 1_000]", r#"[1,-2,3,31,15,17,"1_000"]"#),
            ("[1.5, -2e3, .5, 1., .nan, .inf, -.inf]", "[1.5,-2000.0,0.5,1.0,null,null,null]"),
            ("[inf, nan, e, 1e, '1', \"2\", !!str 3, 0x, 0x-1]", r#"["inf","nan","e","1e","1","2","3","0x","0x-1"]"#),
            ("[18446744073709551615, 18446744073709551616]", "[18446744073709551615,1.8446744073709552e+19]"),
            ("a: |\n  x\n  y\nb: >\n  x\n  y\n", r#"{"a":"x\ny\n","b":"x y\n"}"#),
            ("1: a\ntrue: b\n5m: c", r#"{"1":"a","5m":"c","true":"b"}"#),
            ("---\na: 1\n...\n", r#"{"a":1}"#),
            ("[5m, 2026-11-21, 127.0.0.1:9797, a: b]", r#"["5m","2026-11-21","127.0.0.1:9797",{"a":"b"}]"#),
        ] {
            assert_eq!(json(text), expected, "{text}");
        }
    }

    #[test]
    fn aliases_and_merges_stand_for_what_they_name() {
        assert_eq!(json("a: &x [1, &y 2]\nb: *x\nc: *y"), r#"{"a":[1,2],"b":[1,2],"c":2}"#);
        let text = "base: &b {x: 1, y: 2}\nmore: &m {y: 3, z: 4}\none: {<<: *b, y: 9}\nboth: {<<: [*b, *m]}";
        let expected = r#"{"base":{"x":1,"y":2},"both":{"x":1,"y":2,"z":4},"more":{"y":3,"z":4},"one":{"x":1,"y":9}}"#;
        assert_eq!(json(text), expected);
        assert_eq!(json("{'<<': 3, \"<<\\x20\": 4}"), r#"{"<<":3,"<< ":4}"#, "in quotes it is a key");
    }

    #[test]
    fn a_mistake_has_its_place() {
        for (text, expected) in [
            ("a: 1\na: 2", "line 2, column 1: key `a` is given twice; keep one"),
            ("a: 1\n---\nb: 2", "line 3, column 1: a second document begins; keep one"),
            ("? [a]\n: b", "line 1, column 3: a key is one word"),
            ("a: {<<: 3}", "line 1, column 9: `<<` merges keys and values, or a list of them"),
            ("&x [*x]", "line 1, column 5: an alias stands for what it is part of"),
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
    fn a_short_file_makes_no_large_tree() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..30 {
            let before = level - 1;
            text += &format!("a{level}: &a{level} [{}]\n", vec![format!("*a{before}"); 10].join(", "));
        }
        assert!(parse(&text).expect_err("too many").contains("stand for more than 100000 values"));
        let long = "x".repeat(10_000);
        for text in [format!("a: &a {long}\n"), format!("a: &a {{? {long} : 1}}\n")] {
            let text = format!("{text}b: [{}*a]", "*a, ".repeat(10_000));
            assert!(parse(&text).expect_err("too much text").contains("stand for more than 100000 values"));
        }
        for deep in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000)] {
            parse(&deep).expect_err("too deep");
        }
    }

    proptest::proptest! {
        #[test]
        fn rubbish_is_read_or_refused(text in "[-a-z0-9:{}\\[\\],&*!|>'\"#%@`?~<\\n\\t .]{0,60}") {
            use proptest::prelude::*;
            match parse(&text) {
                // What was understood can be said again.
                Ok(value) => {
                    if let Ok(json) = value.read::<serde_json::Value>() {
                        let again = crate::written::print::yaml(&json).expect("it can be printed");
                        let read = parse(&again).and_then(|value| value.read::<serde_json::Value>().map_err(|error| error.to_string()));
                        prop_assert_eq!(read, Ok(json), "{:?} as {:?}", text, again);
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

        /// Beside a reader that somebody else wrote. Words have none of the letters of `no` and `yes`, which that one
        /// reads as YAML 1.1 did.
        #[test]
        fn lists_and_keys_are_those_that_another_reader_finds(
            text in "([a-c]: ?([g-m]{1,3}|[1-9]{1,3}|\\[[g-m]{1,2}(, [1-9])?\\]|\\{[d-f]: [0-9]\\}|'[a-z ]{0,4}')?\\n( {0,2}- [g-m]{1,3}\\n){0,2}){1,3}",
        ) {
            use proptest::prelude::*;
            let ours = parse(&text).ok().and_then(|value| value.read::<serde_json::Value>().ok());
            let theirs = serde_saphyr::from_str::<serde_json::Value>(&text).ok();
            prop_assert_eq!(ours, theirs, "{}", text);
        }
    }
}
