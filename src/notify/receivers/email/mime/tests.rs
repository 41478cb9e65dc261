//! The exact bytes of mails, line ends shown as `␍`.

use proptest::prelude::*;

use super::*;
use crate::model::Level;
use crate::notify::samples::{at, firing, resolved};

fn rendered(notices: &[Notice]) -> String {
    let notices: Vec<_> = notices.iter().cloned().map(Arc::new).collect();
    let from = "Lookout <lookout@example.com>".parse().expect("an address");
    let to = ["ops@example.com".parse().expect("an address"), "Ann <ann@example.com>".parse().expect("an address")];
    let mail = render(at(0.0), &from, &to, &notices, &message::compose(at(0.0), &notices)).expect("a mail");
    assert!(mail.is_ascii(), "needs no 8BITMIME");
    String::from_utf8(mail).expect("ASCII")
}

fn header<'a>(mail: &'a str, name: &str) -> Option<&'a str> {
    let (head, _) = mail.split_once("\r\n\r\n").expect("head and body");
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[test]
fn one_alert_has_these_bytes() {
    insta::assert_snapshot!("one", rendered(&[firing("worker-1", Level::Error, 0.0)]).replace("\r\n", "␍\n"));
}

#[test]
fn a_summary_has_these_bytes() {
    let notices = [resolved("grüße <b>", 9.0), firing("a & \"b\"", Level::Critical, 0.0)];
    insta::assert_snapshot!("summary", rendered(&notices).replace("\r\n", "␍\n"));
}

#[test]
fn a_mail_sent_again_is_the_same_and_all_of_an_incident_share_a_root() {
    let (one, two) = (firing("a", Level::Warning, 0.0), firing("a", Level::Error, 60.0));
    assert_eq!(rendered(std::slice::from_ref(&one)), rendered(std::slice::from_ref(&one)));
    let (one, two, end) = (rendered(&[one]), rendered(&[two]), rendered(&[resolved("a", 90.0)]));
    let root = format!("<{}@example.com>", firing("a", Level::Warning, 0.0).incident);
    for mail in [&one, &two, &end] {
        assert_eq!(header(mail, "In-Reply-To"), Some(&*root));
        assert_eq!(header(mail, "References"), Some(&*root));
    }
    assert_ne!(header(&one, "Message-ID"), header(&two, "Message-ID"));
    let (a, b) = (firing("a", Level::Warning, 0.0), firing("b", Level::Warning, 0.0));
    let both = rendered(&[a.clone(), b.clone()]);
    assert_eq!(header(&both, "Message-ID"), header(&rendered(&[b, a]), "Message-ID"), "whatever the order");
    assert_eq!(header(&both, "References"), None, "unrelated incidents are not tied together");
}

#[test]
fn a_storm_lists_some_and_counts_all() {
    let notices: Vec<_> = (0..10_000).map(|agent| firing(&format!("w{agent}"), Level::Error, 0.0)).collect();
    let mail = rendered(&notices).replace("=\r\n", "");
    assert!(mail.contains("[ERROR] shop: 10000 alerts"));
    assert!(mail.contains("and 9500 more"));
    assert!(mail.len() < 500_000, "{} bytes", mail.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Nothing an agent writes adds a header, ends a part, or makes a line longer than RFC 5322 has it.
    #[test]
    fn nothing_breaks_out(name in "[\\PC\\r\\n\\x00<>=_-]{0,300}", words in "[\\r\\n.=_<>&a-cä🤖-]{0,400}") {
        let sly = firing(&name, Level::Error, 0.0);
        let notice = Notice { message: Arc::from(words), incident: Arc::from(&*name), key: Arc::from(name), ..sly };
        let mail = rendered(&[notice]);
        let (head, body) = mail.split_once("\r\n\r\n").expect("head and body");
        let names: Vec<_> = head
            .lines()
            .filter(|line| !line.starts_with([' ', '\t']))
            .map(|line| line.split_once(':').expect("a header").0)
            .collect();
        prop_assert_eq!(names.len(), 10, "{:?}", names);
        prop_assert!(mail.split("\r\n").all(|line| line.len() <= 998 && !line.contains(['\r', '\n'])));
        prop_assert_eq!(body.matches("\r\n--=_").count() + usize::from(body.starts_with("--=_")), 3);
        prop_assert!(!body.contains("<script"));
    }
}
