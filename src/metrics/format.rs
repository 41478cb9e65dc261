//! Negotiates the format and encoding of a scrape. A scraper that accepts none of the formats gets the text format.

/// A text format of Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExpositionFormat {
    /// Text 0.0.4, the default.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl ExpositionFormat {
    /// The value of `Content-Type`. Prometheus 3 fails a scrape without a valid one.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The format for the header `Accept`: OpenMetrics if it is listed with at least the quality of text.
    pub fn negotiate(accept: Option<&str>) -> Self {
        let (mut text, mut any, mut open_metrics) = (None, None, None);
        for entry in accept.unwrap_or_default().split(',') {
            let entry = AcceptEntry::parse(entry);
            // 0.0.1 was the draft of 1.0.0; clients that ask for it read 1.0.0. Without a version any is accepted.
            if entry.value.eq_ignore_ascii_case("application/openmetrics-text") {
                if matches!(entry.version, None | Some("1.0.0" | "0.0.1")) {
                    open_metrics = open_metrics.max(Some(entry.quality));
                }
            } else if entry.value.eq_ignore_ascii_case("text/plain") {
                if matches!(entry.version, None | Some("0.0.4")) {
                    text = text.max(Some(entry.quality));
                }
            } else if entry.value == "*/*" || entry.value.eq_ignore_ascii_case("text/*") {
                any = any.max(Some(entry.quality));
            }
        }
        let text = text.or(any).unwrap_or(0);
        match open_metrics {
            Some(quality) if quality > 0 && quality >= text => Self::OpenMetrics,
            _ => Self::Text,
        }
    }
}

/// Whether the header `Accept-Encoding` allows gzip and does not prefer `identity`.
pub fn accepts_gzip(accept_encoding: Option<&str>) -> bool {
    let (mut gzip, mut any, mut identity) = (None, None, 0);
    for entry in accept_encoding.unwrap_or_default().split(',') {
        let entry = AcceptEntry::parse(entry);
        if entry.value.eq_ignore_ascii_case("gzip") || entry.value.eq_ignore_ascii_case("x-gzip") {
            gzip = gzip.max(Some(entry.quality));
        } else if entry.value == "*" {
            any = any.max(Some(entry.quality));
        } else if entry.value.eq_ignore_ascii_case("identity") {
            identity = entry.quality;
        }
    }
    let gzip = gzip.or(any).unwrap_or(0);
    gzip > 0 && gzip >= identity
}

/// One entry of an `Accept` or `Accept-Encoding` header.
struct AcceptEntry<'a> {
    value: &'a str,
    version: Option<&'a str>,
    /// In thousandths, the resolution of the header.
    quality: u32,
}

impl<'a> AcceptEntry<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let mut entry = Self { value: parts.next().unwrap_or_default(), version: None, quality: 1000 };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.trim().trim_matches('"');
            if name.trim().eq_ignore_ascii_case("version") {
                entry.version = Some(value);
            } else if name.trim().eq_ignore_ascii_case("q") {
                // An invalid quality counts as 0.
                let quality = value.parse::<f64>().unwrap_or(0.0);
                entry.quality = (quality.clamp(0.0, 1.0) * 1000.0).round() as u32;
            }
        }
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_follows_the_quality_of_the_accept_header() {
        let check =
            |accept: &str, expected| assert_eq!(ExpositionFormat::negotiate(Some(accept)), expected, "{accept}");
        let prometheus_2 = "application/openmetrics-text;version=1.0.0,\
            application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        check(prometheus_2, ExpositionFormat::OpenMetrics);
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
            application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
            text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        check(prometheus_3, ExpositionFormat::OpenMetrics);
        check("text/plain;version=0.0.4;q=1,application/openmetrics-text;version=1.0.0;q=0.9", ExpositionFormat::Text);
        check("application/openmetrics-text; version=0.0.1", ExpositionFormat::OpenMetrics);
        check("Application/OpenMetrics-Text; Version=\"1.0.0\"", ExpositionFormat::OpenMetrics);
        check("application/openmetrics-text", ExpositionFormat::OpenMetrics);
        check("application/openmetrics-text;version=2.0.0, */*;q=0.1", ExpositionFormat::Text);
        check("application/openmetrics-text;q=0, */*", ExpositionFormat::Text);
        check("application/openmetrics-text;q=0.4, */*;q=0.8", ExpositionFormat::Text);
        check("application/openmetrics-text;q=0.9, text/*;q=0.2", ExpositionFormat::OpenMetrics);
        check("application/openmetrics-text;q=nan", ExpositionFormat::Text);
        check("application/openmetrics-text;q=inf;q", ExpositionFormat::OpenMetrics);
        check("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", ExpositionFormat::Text);
        check("*/*", ExpositionFormat::Text);
        check("image/png", ExpositionFormat::Text);
        check(";;=,,q=;\u{1f916}", ExpositionFormat::Text);
        assert_eq!(ExpositionFormat::negotiate(None), ExpositionFormat::Text);
    }

    #[test]
    fn gzip_is_used_only_when_accepted() {
        let check = |accept: &str, expected| assert_eq!(accepts_gzip(Some(accept)), expected, "{accept}");
        check("gzip", true);
        check("deflate, GZIP;q=1.0, *;q=0.5", true);
        check("x-gzip", true);
        check("*", true);
        check("identity;q=0.1, gzip;q=0.2", true);
        check("gzip;q=0", false);
        check("gzip;q=0.000, *", false);
        check("*;q=0", false);
        check("identity, gzip;q=0.5", false);
        check("br, deflate", false);
        check("gzip;q=x", false);
        check("", false);
        assert!(!accepts_gzip(None));
    }
}
