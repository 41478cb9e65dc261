//! One request of a poll: current headers and secrets, a body within its limit, and errors with cause and remedy.
//!
//! Never follows redirects, never prints a URL (its path or query may hold a token), and never decodes a large body on the
//! thread that serves everything else.

use std::error::Error as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use reqwest::Url;
use tokio::sync::{OnceCell, Semaphore};

use crate::decode::inflate::{self, InflateError};
use crate::files;
use crate::http_client::{self, BodyError};
use crate::ingest::config::{SourceConfig, SourceKind};
use crate::ingest::page::{self, failed, malformed};
use crate::model::{Problem, SourceError, SourceErrorReason, duration};
use crate::secret::SecretSource;

/// Bodies larger than this are decoded on a thread of their own, in bytes.
const INLINE: usize = 256 * 1024;

/// A failed request.
#[derive(Debug)]
pub(crate) struct PollFailure {
    /// The status of the response, if it was an error.
    pub(crate) status: Option<StatusCode>,
    pub(crate) error: SourceError,
}

impl PollFailure {
    /// Whether the route seems not to exist: the server responded, but with something else.
    pub(crate) fn is_foreign(&self) -> bool {
        match self.status {
            Some(status) => matches!(status.as_u16(), 404 | 405 | 410 | 501),
            None => self.error.reason == SourceErrorReason::Malformed,
        }
    }
}

impl From<SourceError> for PollFailure {
    fn from(error: SourceError) -> Self {
        Self { status: None, error }
    }
}

/// Sends the requests of one source.
#[derive(Debug)]
pub(crate) struct SourceClient {
    url: Url,
    headers: HeaderMap,
    access: SourceAuth,
    timeout: Duration,
    max_body: usize,
    /// Whether its secret is `api_key_file`.
    takes_key: bool,
    ca_file: Option<PathBuf>,
    /// Built at the first poll, and retried at the next one if that fails: the CA file may be created later.
    client: OnceCell<reqwest::Client>,
    /// Decodes one body at a time: a timeout can't stop a thread, and slow paths must not pile up threads.
    reading: Arc<Semaphore>,
}

#[derive(Clone, Debug)]
enum SourceAuth {
    None,
    Bearer(SecretSource),
    /// The header `x-api-key`.
    ApiKey(SecretSource),
    Basic(String, Option<SecretSource>),
}

impl SourceClient {
    /// A client for `source`; the error is what validation reports.
    pub(crate) fn new(source: &SourceConfig) -> Result<Self, Vec<Problem>> {
        let wrong = |key: &str, message: &str| vec![Problem::new(key, message)];
        let url = Url::parse(&source.url).map_err(|error| wrong("url", &error.to_string()))?;
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        for (name, value) in &source.headers {
            let key = format!("headers.{name}");
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong(&key, "invalid header name"))?;
            let mut value = HeaderValue::from_str(value.expose()).map_err(|_| wrong(&key, "invalid header value"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let bearer = SecretSource::from_pair(&source.bearer_token, &source.bearer_token_file)
            .map_err(|error| wrong("bearer_token", error))?;
        let key =
            SecretSource::from_pair(&source.api_key, &source.api_key_file).map_err(|error| wrong("api_key", error))?;
        let access = match (key, bearer, &source.basic_auth) {
            (Some(key), _, _) if source.kind == SourceKind::Langflow => SourceAuth::ApiKey(key),
            (Some(token), _, _) | (None, Some(token), _) => SourceAuth::Bearer(token),
            (None, None, Some(basic)) => {
                let password = SecretSource::from_pair(&basic.password, &basic.password_file)
                    .map_err(|error| wrong("basic_auth.password", error))?;
                SourceAuth::Basic(basic.username.clone(), password)
            }
            (None, None, None) => SourceAuth::None,
        };
        Ok(Self {
            url,
            headers,
            access,
            timeout: source.timeout,
            max_body: source.max_body,
            takes_key: source.kind.takes_key(),
            ca_file: source.ca_file.clone(),
            client: OnceCell::new(),
            reading: Arc::new(Semaphore::new(1)),
        })
    }

    /// The timeout of one request.
    pub(crate) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Requests `route`, path segments below the source's URL, and decodes the response with `read`. Without segments it
    /// requests the URL itself.
    pub(crate) async fn fetch<T: Send + 'static>(
        &self,
        route: &[&str],
        read: impl FnOnce(&str) -> Result<T, SourceError> + Send + 'static,
    ) -> Result<T, PollFailure> {
        self.fetch_page(route, &[], read).await
    }

    /// The same with parameters.
    pub(crate) async fn fetch_page<T: Send + 'static>(
        &self,
        route: &[&str],
        parameters: &[(&str, &str)],
        read: impl FnOnce(&str) -> Result<T, SourceError> + Send + 'static,
    ) -> Result<T, PollFailure> {
        let body = self.get(route, parameters).await?;
        let large = body.len() > INLINE;
        let read = move || page::text(&body).and_then(|text| read(&text));
        if !large {
            return Ok(read()?);
        }
        let turn = Arc::clone(&self.reading).acquire_owned().await;
        let reading = tokio::task::spawn_blocking(move || {
            let done = read();
            drop(turn);
            done
        });
        Ok(reading.await.unwrap_or_else(|_| Err(malformed("reading the body failed")))?)
    }

    async fn get(&self, segments: &[&str], parameters: &[(&str, &str)]) -> Result<Vec<u8>, PollFailure> {
        let route = &*segments.iter().map(|segment| format!("/{segment}")).collect::<String>();
        let request = self.client().await?.get(self.address(segments, parameters)).headers(self.headers.clone());
        let request = self.authorized(request).await?;
        let response = request.send().await.map_err(|error| transport_error(route, self.timeout, &error))?;
        let status = response.status();
        if !status.is_success() {
            let message = format!("{}HTTP {status}{}", prefix(route), remedy(status, self.takes_key));
            return Err(PollFailure { status: Some(status), error: failed(SourceErrorReason::Status, &message) });
        }
        let too_large = || {
            let message = format!(
                "{}the body is larger than {} bytes; poll a smaller page, or raise `max_body`",
                prefix(route),
                self.max_body
            );
            PollFailure::from(failed(SourceErrorReason::TooLarge, &message))
        };
        let coding = response.headers().get(header::CONTENT_ENCODING).cloned();
        let body = http_client::read_body(response, self.max_body).await.map_err(|error| match error {
            BodyError::TooLarge => too_large(),
            BodyError::Http(error) => transport_error(route, self.timeout, &error).into(),
        })?;
        // Some servers and proxies compress without being asked to.
        match inflate::plain(coding.as_ref().map(HeaderValue::as_bytes), &body, self.max_body) {
            Ok(plain) => Ok(plain.unwrap_or(body)),
            Err(InflateError::TooLarge(_)) => Err(too_large()),
            Err(error) => Err(malformed(&format!("{}{error}", prefix(route))).into()),
        }
    }

    async fn client(&self) -> Result<&reqwest::Client, SourceError> {
        let build = || async {
            let (timeout, ca_file) = (self.timeout, self.ca_file.clone());
            // The system's CA certificates are read from disk as well.
            let place = ca_file.clone().unwrap_or_default();
            let built =
                files::run_blocking(&place, self.timeout, move || http_client::build(timeout, ca_file.as_deref()))
                    .await;
            match built {
                Ok(Ok(client)) => Ok(client),
                Ok(Err(error)) => Err(failed(SourceErrorReason::Connect, &error.to_string())),
                Err(error) => {
                    Err(failed(SourceErrorReason::Connect, &format!("read the certificates to trust: {error}")))
                }
            }
        };
        self.client.get_or_try_init(build).await
    }

    fn address(&self, segments: &[&str], parameters: &[(&str, &str)]) -> Url {
        let mut url = self.url.clone();
        // A URL with a host always has path segments.
        if let Ok(mut path) = url.path_segments_mut()
            && !segments.is_empty()
        {
            path.pop_if_empty().extend(segments);
        }
        if !parameters.is_empty() {
            url.query_pairs_mut().extend_pairs(parameters);
        }
        url
    }

    async fn authorized(&self, request: reqwest::RequestBuilder) -> Result<reqwest::RequestBuilder, SourceError> {
        match &self.access {
            SourceAuth::None => Ok(request),
            SourceAuth::Bearer(token) => {
                let value = HeaderValue::from_str(&format!("Bearer {}", read(token).await?));
                let mut value = value.map_err(|_| {
                    failed(
                        SourceErrorReason::Secret,
                        "the bearer token contains characters that are invalid in a header; replace the token",
                    )
                })?;
                value.set_sensitive(true);
                Ok(request.header(header::AUTHORIZATION, value))
            }
            SourceAuth::ApiKey(key) => {
                let value = HeaderValue::from_str(&read(key).await?);
                let mut value = value.map_err(|_| {
                    failed(
                        SourceErrorReason::Secret,
                        "the API key contains characters that are invalid in a header; replace the key",
                    )
                })?;
                value.set_sensitive(true);
                Ok(request.header("x-api-key", value))
            }
            SourceAuth::Basic(user, None) => Ok(request.basic_auth(user, None::<&str>)),
            SourceAuth::Basic(user, Some(password)) => Ok(request.basic_auth(user, Some(read(password).await?))),
        }
    }
}

/// Reads the current secret.
async fn read(secret: &SecretSource) -> Result<String, SourceError> {
    let read = secret.read().await.map_err(|error| failed(SourceErrorReason::Secret, &error.in_full()))?;
    Ok(read.expose().to_owned())
}

fn prefix(route: &str) -> String {
    if route.is_empty() { String::new() } else { format!("{route}: ") }
}

fn remedy(status: StatusCode, takes_key: bool) -> &'static str {
    match status.as_u16() {
        401 | 403 if takes_key => "; check `api_key_file`",
        300..=399 => "; redirects are not followed, set `url` to the target",
        401 | 403 => "; check `bearer_token_file` or `basic_auth`",
        404 => "; check `url`",
        _ => "",
    }
}

/// The error of a failed exchange. The innermost cause is the most specific, and never contains the URL.
fn transport_error(route: &str, timeout: Duration, error: &reqwest::Error) -> SourceError {
    if error.is_timeout() {
        let message = format!("{}no complete response within {}", prefix(route), duration::exact(timeout));
        return failed(SourceErrorReason::Timeout, &message);
    }
    let mut cause = error.source();
    while let Some(inner) = cause.and_then(|cause| cause.source()) {
        cause = Some(inner);
    }
    let message = cause.map_or_else(|| "the request could not be sent".to_owned(), ToString::to_string);
    failed(SourceErrorReason::Connect, &format!("{}{message}", prefix(route)))
}
