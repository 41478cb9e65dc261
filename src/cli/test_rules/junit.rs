//! Results as JUnit XML, for CI servers.

use super::FileResult;
use crate::text::escape_markup;

/// The XML document. Texts are escaped; characters that XML can't represent are left out.
pub(super) fn xml(results: &[FileResult]) -> String {
    let failed = |result: &FileResult| match &result.outcome {
        Ok(tests) => tests.iter().filter(|(_, failures)| !failures.is_empty()).count(),
        Err(_) => 0,
    };
    let count = |result: &FileResult| result.outcome.as_ref().map_or(1, Vec::len);
    let errors = |result: &FileResult| usize::from(result.outcome.is_err());
    let sum = |of: &dyn Fn(&FileResult) -> usize| results.iter().map(of).sum::<usize>();
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"lookout test rules\" tests=\"{}\" failures=\"{}\" errors=\"{}\">\n",
        sum(&count),
        sum(&failed),
        sum(&errors)
    );
    for result in results {
        let file = escape(&result.path.display().to_string());
        out.push_str(&format!(
            "  <testsuite name=\"{file}\" tests=\"{}\" failures=\"{}\" errors=\"{}\">\n",
            count(result),
            failed(result),
            errors(result)
        ));
        match &result.outcome {
            Ok(tests) => {
                for (name, failures) in tests {
                    let head = format!("    <testcase classname=\"{file}\" name=\"{}\"", escape(name));
                    match failures.first() {
                        None => out.push_str(&format!("{head}/>\n")),
                        Some(first) => {
                            let message = escape(first.lines().next().unwrap_or_default());
                            let text = escape(&failures.join("\n"));
                            out.push_str(&format!(
                                "{head}>\n      <failure message=\"{message}\">{text}</failure>\n    </testcase>\n"
                            ));
                        }
                    }
                }
            }
            Err(error) => {
                let text = escape(&error.to_string());
                out.push_str(&format!(
                    "    <testcase classname=\"{file}\" name=\"the file\">\n      <error message=\"invalid test file\">{text}</error>\n    </testcase>\n"
                ));
            }
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

/// `text` escaped, without characters that XML 1.0 can't represent.
fn escape(text: &str) -> String {
    let is_allowed = |letter: &char| {
        matches!(letter, '\n' | '\t') || !(letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}'))
    };
    escape_markup(&text.chars().filter(is_allowed).collect::<String>())
}
