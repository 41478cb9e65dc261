//! Style, script and icon, embedded in the program. Their names contain a hash of their content, so that browsers keep them.

use std::io::Write as _;
use std::sync::LazyLock;

use axum::extract::{Path, Query};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;

use super::accepts_gzip;
use crate::server::error::ApiError;

/// An embedded file.
#[derive(Debug)]
pub(super) struct Asset {
    /// Its name with the hash: `style-1a2b3c4d.css`.
    name: String,
    kind: &'static str,
    plain: Bytes,
    compressed: Bytes,
}

impl Asset {
    fn new(stem: &str, ending: &str, kind: &'static str, content: &'static str) -> Self {
        let hash = hex::encode(ring::digest::digest(&ring::digest::SHA256, content.as_bytes()));
        let name = format!("{stem}-{}.{ending}", hash.get(..8).unwrap_or_default());
        Self { name, kind, plain: Bytes::from_static(content.as_bytes()), compressed: compress(content.as_bytes(), 9) }
    }

    /// Its address, relative to any page.
    pub(super) fn href(&self) -> String {
        format!("assets/{}", self.name)
    }
}

pub(super) static STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("style", "css", "text/css; charset=utf-8", include_str!("../../../web/style.css")));
pub(super) static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("script", "js", "text/javascript; charset=utf-8", include_str!("../../../web/script.js"))
});

/// `content` as gzip.
pub(super) fn compress(content: &[u8], level: u32) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(content.len() / 4), Compression::new(level));
    // Writing to memory does not fail.
    encoder.write_all(content).ok();
    Bytes::from(encoder.finish().unwrap_or_default())
}

/// `GET /assets/{name}`.
pub(crate) async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Result<Response, ApiError> {
    let Some(asset) = [&*STYLE, &*SCRIPT].into_iter().find(|asset| asset.name == name) else {
        return Err(ApiError::new(StatusCode::NOT_FOUND, "unknown file; reload the page, which names the current one"));
    };
    let is_compressed = accepts_gzip(&headers);
    let mut response = if is_compressed { asset.compressed.clone() } else { asset.plain.clone() }.into_response();
    let answer = response.headers_mut();
    answer.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    answer.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    answer.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    answer.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", asset.name)) {
        answer.insert(header::ETAG, tag);
    }
    if is_compressed {
        answer.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}

/// What the icon shows.
#[derive(Debug, Deserialize)]
pub(crate) struct IconQuery {
    /// How many agents need attention.
    #[serde(default)]
    n: u32,
    /// Whether one of them is critical.
    #[serde(default)]
    critical: u8,
}

/// The address of an icon that shows `count`.
pub(super) fn icon_href(count: usize, is_critical: bool) -> String {
    format!("icon.svg?n={count}&critical={}", u8::from(is_critical))
}

/// `GET /icon.svg?n=3&critical=1`.
pub(crate) async fn icon(query: Result<Query<IconQuery>, axum::extract::rejection::QueryRejection>) -> Response {
    let query = query.map_or(IconQuery { n: 0, critical: 0 }, |Query(query)| query);
    let colour = match (query.n, query.critical) {
        (0, _) => "#11734b",
        (_, 0) => "#7a2fd0",
        _ => "#c01f2e",
    };
    let mark = match query.n {
        0 => r##"<path d="M9 16.5l4.6 4.6L23.5 11" fill="none" stroke="#fff" stroke-width="3.4" stroke-linecap="round" stroke-linejoin="round"/>"##.to_owned(),
        1..100 => format!(
            r##"<text x="16" y="23" text-anchor="middle" font-family="system-ui,sans-serif" font-weight="700" font-size="19" fill="#fff">{}</text>"##,
            query.n
        ),
        _ => r##"<text x="16" y="22" text-anchor="middle" font-family="system-ui,sans-serif" font-weight="700" font-size="14" fill="#fff">99+</text>"##.to_owned(),
    };
    let svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="8" fill="{colour}"/>{mark}</svg>"#
    );
    let mut response = svg.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("image/svg+xml"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=86400"));
    response
}
