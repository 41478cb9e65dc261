//! What the program knows, as YAML for people: one key a line, lists beneath their key, quotes only where they matter.
//!
//! JSON is YAML on one line but for a few characters, and keeps the order of fields: what is serialised is JSON, and its
//! tokens are set out here.

use granit_parser::{Event, Parser, ScalarStyle, StrInput};
use serde::Serialize;

use super::tree::Value;
use super::yaml;

/// `value` as YAML; the error says why it has none.
pub(crate) fn yaml(value: &impl Serialize) -> Result<String, String> {
    set_out(&escaped(serde_json::to_string(value).map_err(|error| error.to_string())?))
}

/// JSON without the characters that YAML has only as escapes. They stand in texts and nowhere else.
fn escaped(json: String) -> String {
    let is_bare = |letter: char| !matches!(letter, '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}');
    if json.chars().all(is_bare) {
        return json;
    }
    let escape =
        |letter: char| if is_bare(letter) { letter.to_string() } else { format!("\\u{:04x}", u32::from(letter)) };
    json.chars().map(escape).collect()
}

fn set_out(json: &str) -> Result<String, String> {
    let mut printer = Printer { tokens: Parser::new_from_str(json), out: String::new() };
    loop {
        match printer.next()? {
            Event::StreamStart | Event::DocumentStart(..) => {}
            event => {
                printer.value(event, 0, true)?;
                printer.out.push('\n');
                return Ok(printer.out);
            }
        }
    }
}

struct Printer<'t> {
    tokens: Parser<'t, StrInput<'t>>,
    out: String,
}

impl<'t> Printer<'t> {
    fn next(&mut self) -> Result<Event<'t>, String> {
        match self.tokens.next_event() {
            Some(Ok((event, _))) => Ok(event),
            Some(Err(error)) => Err(error.to_string()),
            None => Err("it ends too soon".to_owned()),
        }
    }

    /// Writes the value that begins with `event`. `is_first` says that it stands where its line begins, as the first
    /// thing of an item does.
    fn value(&mut self, event: Event<'t>, indent: usize, is_first: bool) -> Result<(), String> {
        match event {
            Event::Scalar(text, style, ..) => {
                self.space(is_first);
                self.scalar(&text, style == ScalarStyle::DoubleQuoted);
                Ok(())
            }
            Event::MappingStart(..) => self.mapping(indent, is_first),
            Event::SequenceStart(..) => self.sequence(indent, is_first),
            _ => Err("a value is missing".to_owned()),
        }
    }

    fn mapping(&mut self, indent: usize, is_first: bool) -> Result<(), String> {
        let mut is_empty = true;
        loop {
            let key = match self.next()? {
                Event::Scalar(key, ..) => key,
                _ if is_empty => {
                    self.space(is_first);
                    self.out.push_str("{}");
                    return Ok(());
                }
                _ => return Ok(()),
            };
            self.line(indent, is_first && is_empty);
            self.scalar(&key, true);
            self.out.push(':');
            let event = self.next()?;
            // Items stand beneath their key, whose values stand to its right.
            let beneath = if matches!(event, Event::SequenceStart(..)) { indent } else { indent + 2 };
            self.value(event, beneath, false)?;
            is_empty = false;
        }
    }

    fn sequence(&mut self, indent: usize, is_first: bool) -> Result<(), String> {
        let mut is_empty = true;
        loop {
            let event = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                if is_empty {
                    self.space(is_first);
                    self.out.push_str("[]");
                }
                return Ok(());
            }
            self.line(indent, is_first && is_empty);
            self.out.push_str("- ");
            self.value(event, indent + 2, true)?;
            is_empty = false;
        }
    }

    /// Begins a line, unless it has begun.
    fn line(&mut self, indent: usize, has_begun: bool) {
        if !has_begun {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(' ', indent));
        }
    }

    fn space(&mut self, is_first: bool) {
        if !is_first {
            self.out.push(' ');
        }
    }

    fn scalar(&mut self, text: &str, is_text: bool) {
        if is_text && !is_plain(text) {
            // A JSON string is one of YAML.
            self.out.push_str(&escaped(serde_json::Value::from(text).to_string()));
        } else {
            self.out.push_str(text);
        }
    }
}

/// Whether text without quotes is read back as the same text.
fn is_plain(text: &str) -> bool {
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:@+=%~* ".contains(&byte);
    text.bytes().all(is_safe)
        && text.starts_with(|first: char| first.is_ascii_alphanumeric() || matches!(first, '/' | '.' | '_'))
        && !text.ends_with([' ', ':'])
        && !text.starts_with("...")
        && !text.contains(": ")
        && matches!(yaml::plain(text), Value::Text(_))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    use super::*;

    #[test]
    fn it_is_written_as_people_would() {
        let value = json!({
            "a": "127.0.0.1:9797", "b": [], "c": {}, "d": null, "e": 1.5,
            "f": ["x", {"a": "***", "b": {"c": "12"}}, [1, [2]], {}, []],
            "g": {"h": "a: b", "i": "line\nline", "j": ["k"]},
        });
        let expected = "a: 127.0.0.1:9797\nb: []\nc: {}\nd: null\ne: 1.5\nf:\n- x\n- a: \"***\"\n  b:\n    c: \"12\"\n\
                        - - 1\n  - - 2\n- {}\n- []\ng:\n  h: \"a: b\"\n  i: \"line\\nline\"\n  j:\n  - k\n";
        assert_eq!(yaml(&value).expect("YAML"), expected);
    }

    #[test]
    fn what_yaml_has_only_as_escapes_is_escaped() {
        let value = json!({"a\u{7f}": "\u{80}\u{85}\u{9f}\u{fffe}\u{ffff}", "b": "...", "<<": 1});
        let text = yaml(&value).expect("YAML");
        let expected = "\"<<\": 1\n\"a\\u007f\": \"\\u0080\\u0085\\u009f\\ufffe\\uffff\"\nb: \"...\"\n";
        assert_eq!(text, expected);
        assert_eq!(yaml::parse(&text).expect(&text).read(), Ok(value));
        assert_eq!(yaml(&"...").expect("YAML"), "\"...\"\n", "else it would end the document");
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

    proptest! {
        #[test]
        fn it_reads_back_the_same(value in any_json()) {
            let text = yaml(&value).expect("YAML");
            let read: Json = yaml::parse(&text).expect(&text).read().expect("JSON");
            prop_assert_eq!(read, value, "{}", text);
        }
    }
}
