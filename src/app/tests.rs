//! A whole sidecar within the test: what becomes of it when a part of it fails.

use std::io::{Read as _, Write as _};

use super::*;
use crate::config::Environment;

/// A sidecar in memory on a port of its own, with these lines in its configuration.
async fn start(lines: &str) -> (tempfile::TempDir, Running) {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("lookout.yaml");
    let text = format!("listen: 127.0.0.1:0\nstore: {{path: null}}\notlp: {{http: 127.0.0.1:0, grpc: null}}\n{lines}");
    std::fs::write(&file, text).expect("a file");
    let source = Source { file: Some(file), env: Environment::default() };
    let config = source.load().expect("it is valid");
    let running = Running::start(config, source, Extras::default()).await.expect("it starts");
    (dir, running)
}

async fn healthy(address: SocketAddr) -> String {
    let ask = move || {
        let mut stream = std::net::TcpStream::connect(address)?;
        stream.write_all(b"GET /-/healthy HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    };
    tokio::task::spawn_blocking(ask).await.expect("a thread").expect("an answer")
}

#[tokio::test]
async fn an_engine_that_panics_ends_the_program_and_health_says_so_before() {
    let (_dir, running) = start("").await;
    assert!(healthy(running.address).await.starts_with("HTTP/1.1 200 "));
    running.reloader.handle.panic().await;
    assert_eq!(running.supervisor.failure().await, "the engine");
    let answer = healthy(running.address).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("the engine"), "{answer}");
    let mut signals = Signals::install().expect("signals");
    let ended = running.wait(&mut signals).await;
    let error = running.stop(ended).await.expect_err("it is no success");
    assert_eq!(error.to_string(), "a part of the program ended unexpectedly: the engine");
}

#[tokio::test]
async fn the_owner_of_streams_that_panics_ends_the_program() {
    let (_dir, running) = start("").await;
    running.reloader.otlp.panic().await;
    let part = running.supervisor.failure().await;
    assert_eq!(part, "the owner of OTLP streams");
    assert!(healthy(running.address).await.starts_with("HTTP/1.1 503 "));
    assert!(running.stop(Err(anyhow::anyhow!("it failed"))).await.is_err());
}

#[tokio::test]
async fn the_store_s_threads_are_watched() {
    let (_dir, running) = start("").await;
    // Closed by somebody else than the end of the program: its threads end.
    running.reloader.store.clone().close(CLOSING).await.expect("it closes");
    let part = running.supervisor.failure().await;
    assert!(part.contains("thread"), "{part}");
    assert!(running.stop(Err(anyhow::anyhow!("it failed"))).await.is_err());
}

#[tokio::test]
async fn reloads_and_the_end_are_no_failures() {
    let (_dir, running) = start("heartbeat: {interval: 1s}").await;
    for _ in 0..2 {
        assert_eq!(running.reloader.reload().await, Ok(Vec::new()));
    }
    assert_eq!(running.supervisor.failed(), None);
    let supervisor = running.supervisor.clone();
    running.stop(Ok(())).await.expect("it ends");
    assert_eq!(supervisor.failed(), None);
}
