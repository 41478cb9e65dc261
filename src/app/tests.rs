//! Tests of a whole sidecar in the test process when one of its tasks fails.

use std::io::{Read as _, Write as _};

use super::*;
use crate::config::Environment;

/// A sidecar with a store in memory on a free port, with `lines` in its configuration.
async fn start(lines: &str) -> (tempfile::TempDir, RunningSidecar) {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("lookout.yaml");
    let text = format!("listen: 127.0.0.1:0\nstore: {{path: null}}\notlp: {{http: 127.0.0.1:0, grpc: null}}\n{lines}");
    std::fs::write(&file, text).expect("a file");
    let source = ConfigSource { file: Some(file), env: Environment::default() };
    let config = source.load().expect("it is valid");
    let running = RunningSidecar::start(config, source, RunOptions::default()).await.expect("it starts");
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
async fn a_panic_of_the_engine_stops_the_program_and_is_reported_by_health() {
    let (_dir, running) = start("").await;
    assert!(healthy(running.address).await.starts_with("HTTP/1.1 200 "));
    running.reloader.handle.panic().await;
    assert_eq!(running.supervisor.failure().await, "engine");
    let answer = healthy(running.address).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("engine"), "{answer}");
    let mut signals = Signals::install().expect("signals");
    let ended = running.wait(&mut signals).await;
    let error = running.stop(ended).await.expect_err("a failure");
    assert_eq!(error.to_string(), "task failed: engine");
}

#[tokio::test]
async fn a_panic_of_the_otlp_task_stops_the_program() {
    let (_dir, running) = start("").await;
    running.reloader.otlp.panic().await;
    let part = running.supervisor.failure().await;
    assert_eq!(part, "OTLP streams");
    assert!(healthy(running.address).await.starts_with("HTTP/1.1 503 "));
    assert!(running.stop(Err(anyhow::anyhow!("it failed"))).await.is_err());
}

#[tokio::test]
async fn the_threads_of_the_store_are_watched() {
    let (_dir, running) = start("").await;
    // Closing the store outside of a shutdown ends its threads.
    running.reloader.store.clone().close(STORE_CLOSE_TIMEOUT).await.expect("it closes");
    let part = running.supervisor.failure().await;
    assert!(part.contains("thread"), "{part}");
    assert!(running.stop(Err(anyhow::anyhow!("it failed"))).await.is_err());
}

#[tokio::test]
async fn reloads_and_a_shutdown_are_not_failures() {
    let (_dir, running) = start("heartbeat: {interval: 1s}").await;
    for _ in 0..2 {
        assert_eq!(running.reloader.reload().await, Ok(Vec::new()));
    }
    assert_eq!(running.supervisor.failed(), None);
    let supervisor = running.supervisor.clone();
    running.stop(Ok(())).await.expect("it ends");
    assert_eq!(supervisor.failed(), None);
}
