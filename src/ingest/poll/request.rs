//! One request of a poll: headers and secrets as they are now, the body up to its cap, what went wrong in words.
//!
//! Refuses to follow redirects, to print a URL (its path or query may hold a token), and to read a large body on
//! the thread that serves everything else.

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
use crate::ingest::config::SourceConfig;
use crate::ingest::page::{self, failed, malformed};
use crate::model::{Problem, SourceError, SourceErrorReason};
use crate::secret::SecretSource;

/// Larger bodies are read on a thread of their own, in bytes.
const INLINE: usize = 256 * 1024;

/// Why there is no answer.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The status, when it was no success.
    pub(crate) status: Option<StatusCode>,
    pub(crate) error: SourceError,
}

impl Failure {
    /// Whether something answered, but not what was asked for: it may speak otherwise.
    pub(crate) fn is_foreign(&self) -> bool {
        match self.status {
            Some(status) => matches!(status.as_u16(), 404 | 405 | 410 | 501),
            None => self.error.reason == SourceErrorReason::Malformed,
        }
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        Self { status: None, error }
    }
}

/// Sends the requests of one source.
#[derive(Debug)]
pub(crate) struct Requester {
    url: Url,
    headers: HeaderMap,
    access: Access,
    timeout: Duration,
    max_body: usize,
    ca_file: Option<PathBuf>,
    /// Built at the first poll, and again when that failed: a CA file may come later.
    client: OnceCell<reqwest::Client>,
    /// One body at a time: a deadline can't stop a thread that reads, and a slow path must not pile them up.
    reading: Arc<Semaphore>,
}

#[derive(Clone, Debug)]
enum Access {
    None,
    Bearer(SecretSource),
    Basic(String, Option<SecretSource>),
}

impl Requester {
    /// For the address, headers and secrets of `source`; the error is what validation would have found.
    pub(crate) fn new(source: &SourceConfig) -> Result<Self, Vec<Problem>> {
        let wrong = |key: &str, message: &str| vec![Problem::new(key, message)];
        let url = Url::parse(&source.url).map_err(|error| wrong("url", &error.to_string()))?;
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        for (name, value) in &source.headers {
            let key = format!("headers.{name}");
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong(&key, "not a header's name"))?;
            let mut value = HeaderValue::from_str(value.expose()).map_err(|_| wrong(&key, "not a header's value"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let bearer = SecretSource::from_pair(&source.bearer_token, &source.bearer_token_file)
            .map_err(|error| wrong("bearer_token", error))?;
        let access = match (bearer, &source.basic_auth) {
            (Some(token), _) => Access::Bearer(token),
            (None, Some(basic)) => {
                let password = SecretSource::from_pair(&basic.password, &basic.password_file)
                    .map_err(|error| wrong("basic_auth.password", error))?;
                Access::Basic(basic.username.clone(), password)
            }
            (None, None) => Access::None,
        };
        Ok(Self {
            url,
            headers,
            access,
            timeout: source.timeout,
            max_body: source.max_body,
            ca_file: source.ca_file.clone(),
            client: OnceCell::new(),
            reading: Arc::new(Semaphore::new(1)),
        })
    }

    /// How long one exchange may take.
    pub(crate) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// What `read` makes of the answer of `route`, the segments of a path below the source's address; of the address
    /// itself when there are none.
    pub(crate) async fn fetch<T: Send + 'static>(
        &self,
        route: &[&str],
        read: impl FnOnce(&str) -> Result<T, SourceError> + Send + 'static,
    ) -> Result<T, Failure> {
        let body = self.get(route).await?;
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

    async fn get(&self, segments: &[&str]) -> Result<Vec<u8>, Failure> {
        let route = &*segments.iter().map(|segment| format!("/{segment}")).collect::<String>();
        let request = self.client().await?.get(self.address(segments)).headers(self.headers.clone());
        let request = self.authorized(request).await?;
        let response = request.send().await.map_err(|error| broken(route, &error))?;
        let status = response.status();
        if !status.is_success() {
            let message = format!("{}answers {status}{}", prefix(route), remedy(status));
            return Err(Failure { status: Some(status), error: failed(SourceErrorReason::Status, &message) });
        }
        let too_large = || {
            let message = format!(
                "{}the body is larger than {} bytes; poll a smaller page, or raise `max_body`",
                prefix(route),
                self.max_body
            );
            Failure::from(failed(SourceErrorReason::TooLarge, &message))
        };
        let coding = response.headers().get(header::CONTENT_ENCODING).cloned();
        let body = http_client::read_body(response, self.max_body).await.map_err(|error| match error {
            BodyError::TooLarge => too_large(),
            BodyError::Http(error) => broken(route, &error).into(),
        })?;
        // Nobody asked for it; some servers and proxies compress all the same.
        match inflate::plain(coding.as_ref().map(HeaderValue::as_bytes), &body, self.max_body) {
            Ok(plain) => Ok(plain.unwrap_or(body)),
            Err(InflateError::TooLarge(_)) => Err(too_large()),
            Err(error) => Err(malformed(&format!("{}{error}", prefix(route))).into()),
        }
    }

    async fn client(&self) -> Result<&reqwest::Client, SourceError> {
        let build = || async {
            let (timeout, ca_file) = (self.timeout, self.ca_file.clone());
            // The machine's roots are read from disk as well.
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

    fn address(&self, segments: &[&str]) -> Url {
        let mut url = self.url.clone();
        // An address with a host always has a path that takes segments.
        if let Ok(mut path) = url.path_segments_mut()
            && !segments.is_empty()
        {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    async fn authorized(&self, request: reqwest::RequestBuilder) -> Result<reqwest::RequestBuilder, SourceError> {
        match &self.access {
            Access::None => Ok(request),
            Access::Bearer(token) => {
                let value = HeaderValue::from_str(&format!("Bearer {}", read(token).await?));
                let mut value = value.map_err(|_| {
                    failed(
                        SourceErrorReason::Secret,
                        "the bearer token holds characters that no header can; write it anew",
                    )
                })?;
                value.set_sensitive(true);
                Ok(request.header(header::AUTHORIZATION, value))
            }
            Access::Basic(user, None) => Ok(request.basic_auth(user, None::<&str>)),
            Access::Basic(user, Some(password)) => Ok(request.basic_auth(user, Some(read(password).await?))),
        }
    }
}

/// The secret as it is now.
async fn read(secret: &SecretSource) -> Result<String, SourceError> {
    let read = secret.read().await.map_err(|error| failed(SourceErrorReason::Secret, &error.in_full()))?;
    Ok(read.expose().to_owned())
}

fn prefix(route: &str) -> String {
    if route.is_empty() { String::new() } else { format!("{route}: ") }
}

fn remedy(status: StatusCode) -> &'static str {
    match status.as_u16() {
        300..=399 => "; redirects are not followed, so set `url` to where it leads",
        401 | 403 => "; give `bearer_token_file` or `basic_auth` that it accepts",
        404 => "; see whether `url` is right",
        _ => "",
    }
}

/// What broke the exchange. The innermost cause says most, and unlike the outermost it never holds the URL.
fn broken(route: &str, error: &reqwest::Error) -> SourceError {
    if error.is_timeout() {
        return failed(SourceErrorReason::Timeout, &format!("{}no whole answer in time", prefix(route)));
    }
    let mut cause = error.source();
    while let Some(inner) = cause.and_then(|cause| cause.source()) {
        cause = Some(inner);
    }
    let words = cause.map_or_else(|| "the request could not be sent".to_owned(), ToString::to_string);
    failed(SourceErrorReason::Connect, &format!("{}{words}", prefix(route)))
}
