//! Replaces home directories in text, which would reveal user names.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

/// Home directories of Linux, macOS and Windows, plain, escaped or percent-encoded.
static HOME: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let separator = r"(?:/|%2[Ff])";
    let back = r"(?:\\+|%5[Cc])";
    let (name, windows_name) = (r#"[^/\\%\s"'<>?&;,|:]+"#, r#"[^/\\%"'<>?&;,|:]+"#);
    let unix = format!("{separator}(?:home|Users){separator}+{name}");
    let windows = format!("(?:[A-Za-z]:)?{back}[Uu]sers{back}{windows_name}|[A-Za-z]:/[Uu]sers/{windows_name}");
    // `/root` is recognized by the characters around it.
    Regex::new(&format!(r"{windows}|{unix}|(?P<before>^|[^A-Za-z0-9_.-]){separator}root(?P<after>{separator}|$)")).ok()
});

/// `text` with `~` for each home directory in it.
pub fn without_home(text: &str) -> Cow<'_, str> {
    // Most text has no separator.
    let has_separator = text.bytes().any(|byte| matches!(byte, b'/' | b'\\' | b'%'));
    if !has_separator || !["home", "sers", "root"].iter().any(|word| text.contains(word)) {
        return Cow::Borrowed(text);
    }
    match HOME.as_ref() {
        Some(home) => home.replace_all(text, "${before}~${after}"),
        None => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `text` with placeholders replaced by home directories.
    fn written(text: &str) -> String {
        text.replace("{unix}", "/home").replace("{mac}", "/Users").replace("{root}", "/root")
    }

    #[test]
    fn home_directories_are_replaced() {
        for (text, shown) in [
            ("sqlite+aiosqlite://:/{unix}/dev/langflow/langflow.db", "sqlite+aiosqlite://:/~/langflow/langflow.db"),
            ("{unix}/dev", "~"),
            ("file://{mac}/jane/x.py", "file://~/x.py"),
            (r"C:\Users\Jane Doe\x.py", r"~\x.py"),
            (r"C:\\Users\\jane\\x.py", r"~\\x.py"),
            ("c:/users/jane/x.py", "~/x.py"),
            ("file%3A%2F%2F%2Fhome%2Fdev%2Fx", "file%3A%2F%2F~%2Fx"),
            ("/var{unix}/dev/x:{unix}/eve/y", "/var~/x:~/y"),
            ("{root}/x.db", "~/x.db"),
            ("sqlite:///{root}/x.db", "sqlite:///~/x.db"),
            (r#"["{unix}/dev/a","b"]"#, r#"["~/a","b"]"#),
        ] {
            assert_eq!(without_home(&written(text)), shown);
        }
        for text in ["/users/{id}", "/api{root}/x", "homely", "/srv/app/x.py", "C:\\Program Files\\x", "chroot/", ""] {
            assert_eq!(without_home(&written(text)), written(text));
        }
    }
}
