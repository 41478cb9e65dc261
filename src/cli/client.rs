//! An HTTP client for the API of a running sidecar. It follows no redirects and limits the size of answers.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use reqwest::{StatusCode, Url};
use serde_json::Value;

use crate::config::Environment;
use crate::http_client;
use crate::secret::{Secret, SecretSource, mask};

/// The address of a sidecar unless another is given.
pub(super) const DEFAULT_URL: &str = "http://127.0.0.1:9797";

/// Timeout of a request; even the largest fleets answer within a second.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Most bytes of an answer; 10,000 agents take about 6 MiB.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Arguments of commands that show an answer of a running sidecar.
#[derive(Args, Clone, Debug, Default)]
pub struct ClientArgs {
    /// How to reach it
    #[command(flatten)]
    pub reach: ReachArgs,
    /// Print the API's answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// How to reach a running sidecar.
#[derive(Args, Clone, Debug, Default)]
pub struct ReachArgs {
    /// Address of the sidecar [env: LOOKOUT_URL] [default: http://127.0.0.1:9797]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// File with an access token [env: LOOKOUT_TOKEN_FILE]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// PEM file with additional CA certificates, for a sidecar with a private certificate
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}

impl ReachArgs {
    /// The address given here, else in `env`, else the default one.
    pub(super) fn base(&self, env: &Environment) -> anyhow::Result<Url> {
        parse_url(self.url.as_deref().or_else(|| env.get("LOOKOUT_URL")).unwrap_or(DEFAULT_URL))
    }
}

/// A client for one sidecar.
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<Secret>,
}

impl Client {
    /// A client by `args`; `env` and defaults apply where these give nothing.
    pub(super) fn new(args: &ClientArgs, env: &Environment) -> anyhow::Result<Self> {
        Self::reaching(&args.reach, env)
    }

    /// [`Client::new`] for commands whose answers are not printed.
    pub(super) fn reaching(args: &ReachArgs, env: &Environment) -> anyhow::Result<Self> {
        let base = args.base(env)?;
        let token_file = args.token_file.clone().or_else(|| env.get("LOOKOUT_TOKEN_FILE").map(PathBuf::from));
        let token = token_file.map(|file| SecretSource::File(file).read_blocking()).transpose()?;
        Ok(Self { http: http_client::build(TIMEOUT, args.ca_file.as_deref())?, base, token })
    }

    /// The sidecar's address, with credentials masked.
    pub(super) fn address(&self) -> String {
        mask::url(self.base.as_str()).trim_end_matches('/').to_owned()
    }

    /// The unchanged answer to a GET of `path` with `query`.
    pub(super) async fn get(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<String> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.answer(self.http.get(url)).await
    }

    /// The answer to a POST of `body` as JSON to the path of `segments`, which are percent-encoded.
    pub(super) async fn post(&self, segments: &[&str], body: &Value) -> anyhow::Result<String> {
        self.post_text(segments, body.to_string()).await
    }

    /// [`Client::post`] of JSON that is serialized already.
    pub(super) async fn post_text(&self, segments: &[&str], body: String) -> anyhow::Result<String> {
        let request = self.http.post(self.path(segments));
        self.answer(request.header("content-type", "application/json").body(body)).await
    }

    /// The answer to a DELETE of the path of `segments`.
    pub(super) async fn delete(&self, segments: &[&str]) -> anyhow::Result<String> {
        self.answer(self.http.delete(self.path(segments))).await
    }

    /// The answer to a DELETE of `path` with `query`.
    pub(super) async fn delete_with(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<String> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url.query_pairs_mut().extend_pairs(query);
        self.answer(self.http.delete(url)).await
    }

    fn path(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        // This fails only for URLs without a host, which `parse_url` rejects.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    async fn answer(&self, mut request: reqwest::RequestBuilder) -> anyhow::Result<String> {
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        let response = request.send().await.map_err(|error| {
            let reason = mask::url(&root_cause(&error.without_url())).into_owned();
            anyhow!(
                "no answer from lookout at {}: {reason}; start it with `lookout`, or give its address with --url",
                self.address()
            )
        })?;
        let status = response.status();
        let body = match http_client::read_body(response, MAX_ANSWER).await {
            Ok(body) => body,
            Err(http_client::BodyError::TooLarge) => bail!("the answer of {} is larger than 64 MiB", self.address()),
            Err(http_client::BodyError::Http(error)) => {
                bail!("the answer of {} is incomplete: {}", self.address(), root_cause(&error.without_url()))
            }
        };
        let text = String::from_utf8(body).with_context(|| format!("the answer of {} is not text", self.address()))?;
        if status.is_success() { Ok(text) } else { Err(self.error_of(status, &text)) }
    }

    fn error_of(&self, status: StatusCode, body: &str) -> anyhow::Error {
        let body = serde_json::from_str::<Value>(body).ok();
        let text_of = |key: &str| Some(body.as_ref()?.get(key)?.as_str()?.to_owned());
        // A missing role has a reason, which says more than `Unauthorized`.
        let error = text_of("error").map(|error| text_of("reason").unwrap_or(error));
        // A sidecar's errors always have a message; a 404 without one comes from another server.
        let has_message = error.is_some();
        let error = error.map(|error| format!(": {}", crate::text::clean(&error, 500))).unwrap_or_default();
        let remedy = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if self.token.is_none() => {
                "; give a token with --token-file"
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "; check the token of --token-file and its role",
            StatusCode::NOT_FOUND if !has_message => "; check that this is the address of a lookout sidecar",
            _ => "",
        };
        let message = format!("{}: HTTP {}{error}{remedy}", self.address(), status.as_u16());
        anyhow::Error::new(AnswerError { status, message })
    }
}

/// An answer that is an error.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct AnswerError {
    status: StatusCode,
    message: String,
}

/// Whether a sidecar refused a request, so that the same request would be refused again.
pub(super) fn is_refusal(error: &anyhow::Error) -> bool {
    let status = error.downcast_ref::<AnswerError>().map(|answer| answer.status);
    let may_pass = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    status.is_some_and(|status| status.is_client_error() && !may_pass.contains(&status))
}

/// Reads the address of a sidecar; `host:port` means plain HTTP.
pub(super) fn parse_url(text: &str) -> anyhow::Result<Url> {
    let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    match Url::parse(&full) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => bail!("`{}` is not an address of a sidecar; write it like {DEFAULT_URL}", mask::url(text)),
    }
}

/// The innermost cause of an error: `Connection refused (os error 111)` instead of `error sending request`.
pub(super) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_leniently_and_shown_without_credentials() {
        for (text, shown) in [
            ("http://127.0.0.1:9797", "http://127.0.0.1:9797"),
            ("127.0.0.1:9797/", "http://127.0.0.1:9797"),
            ("https://ops:hunter2@example.com/lookout/", "https://***@example.com/lookout"),
        ] {
            let args = ReachArgs { url: Some(text.to_owned()), ..ReachArgs::default() };
            assert_eq!(Client::reaching(&args, &Environment::default()).expect(text).address(), shown);
        }
        for text in ["ftp://host", "http://", "nonsense and more"] {
            assert!(parse_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_environment_names_the_sidecar() {
        let env = [("LOOKOUT_URL", "http://127.0.0.1:1")].into_iter().collect();
        assert_eq!(Client::new(&ClientArgs::default(), &env).expect("client").address(), "http://127.0.0.1:1");
    }

    /// A server that gives one `answer`; returns its address and the request.
    async fn serve(answer: &'static str) -> (String, tokio::task::JoinHandle<String>) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address").to_string();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("accept");
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.expect("request"));
            }
            stream.write_all(answer.as_bytes()).await.expect("answer");
            String::from_utf8(request).expect("text")
        });
        (address, served)
    }

    async fn get(address: &str, token_file: Option<PathBuf>) -> Result<String, String> {
        let args = ReachArgs { url: Some(format!("{address}/base")), token_file, ..ReachArgs::default() };
        let client = Client::reaching(&args, &Environment::default()).expect("client");
        client
            .get("/api/alerts", &[("agent", "a&b".to_owned())])
            .await
            .map_err(|error| format!("{error:#}").replace(address, "HERE"))
    }

    #[tokio::test]
    async fn the_token_is_sent_and_the_answer_is_unchanged() {
        let dir = tempfile::tempdir().expect("dir");
        let token = dir.path().join("token");
        std::fs::write(&token, "hunter2\n").expect("write");
        let (address, served) = serve("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"a\": 1}\n").await;
        assert_eq!(get(&address, Some(token)).await, Ok("{\"a\": 1}\n".to_owned()));
        let request = served.await.expect("served");
        assert!(request.starts_with("GET /base/api/alerts?agent=a%26b HTTP/1.1\r\n"), "{request}");
        assert!(request.to_lowercase().contains("authorization: bearer hunter2\r\n"), "{request}");
    }

    #[tokio::test]
    async fn errors_include_the_remedy() {
        for (answer, error) in [
            (
                "HTTP/1.1 403 Forbidden\r\ncontent-length: 23\r\n\r\n{\"error\": \"no \u{7}access\"}",
                "http://HERE/base: HTTP 403; give a token with --token-file",
            ),
            (
                "HTTP/1.1 401 Unauthorized\r\ncontent-length: 22\r\n\r\n{\"error\": \"no access\"}",
                "http://HERE/base: HTTP 401: no access; give a token with --token-file",
            ),
            (
                "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
                "http://HERE/base: HTTP 404; check that this is the address of a lookout sidecar",
            ),
            (
                "HTTP/1.1 404 Not Found\r\ncontent-length: 26\r\n\r\n{\"error\": \"no such alert\"}",
                "http://HERE/base: HTTP 404: no such alert",
            ),
            (
                "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
                "http://HERE/base: HTTP 302",
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n",
                "the answer of http://HERE/base is larger than 64 MiB",
            ),
        ] {
            let (address, _served) = serve(answer).await;
            assert_eq!(get(&address, None).await, Err(error.to_owned()));
        }
    }

    #[tokio::test]
    async fn an_unreachable_sidecar_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address").to_string();
        drop(listener);
        let error = get(&address, None).await.expect_err("nothing listens");
        assert_eq!(
            error,
            "no answer from lookout at http://HERE/base: Connection refused (os error 111); start it with `lookout`, or give \
             its address with --url"
        );
    }
}
