//! Label sets of series, rendered and escaped once per agent, component or project.

use std::sync::Arc;

/// Appends `value` escaped as a label value, the same in both text formats.
pub fn escape(value: &str, out: &mut String) {
    for letter in value.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

fn labels(pairs: &[(&str, &str)]) -> Arc<str> {
    let mut out = String::new();
    for (name, value) in pairs {
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(name);
        out.push_str("=\"");
        escape(value, &mut out);
        out.push('"');
    }
    Arc::from(out)
}

/// `project="…"`.
pub fn project_labels(project: &str) -> Arc<str> {
    labels(&[("project", project)])
}

/// `project="…",agent_name="…"`.
pub fn agent_labels(project: &str, name: &str) -> Arc<str> {
    labels(&[("project", project), ("agent_name", name)])
}

/// `project="…",component="…"`.
pub fn component_labels(project: &str, name: &str) -> Arc<str> {
    labels(&[("project", project), ("component", name)])
}

#[cfg(test)]
mod tests {
    #[test]
    fn quotes_backslashes_and_newlines_are_escaped() {
        assert_eq!(&*super::agent_labels("a\"b", "c\\d\ne{🤖}"), r#"project="a\"b",agent_name="c\\d\ne{🤖}""#);
    }
}
