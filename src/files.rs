//! Reads external files: certificates, secrets, configuration, rules. Each read is limited in size and rejects files that may
//! block, such as named pipes; [`read`] has a timeout too, for mounts that hang.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::OFlags;
use tokio::sync::Semaphore;

/// The timeout of a read while the program runs.
pub const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// Reads the regular file at `path`, at most `max` bytes. Blocks as long as its disk does; use [`read`] in async code.
pub fn read_blocking(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    // Without `O_NONBLOCK`, opening a named pipe would wait for its writer. Regular files ignore it.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let kind = file.metadata()?.file_type();
    let is_null = kind.is_char_device() && path == Path::new("/dev/null");
    if !kind.is_file() && !is_null {
        let what = match kind {
            kind if kind.is_dir() => "a directory",
            kind if kind.is_fifo() => "a named pipe",
            kind if kind.is_socket() => "a socket",
            _ => "a device",
        };
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("not a regular file but {what}")));
    }
    read_all(file, max)
}

/// Reads `file` to its end, at most `max` bytes.
pub fn read_all(file: File, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {max} bytes")));
    }
    Ok(bytes)
}

/// [`read_blocking`] on a thread of its own, within [`READ_TIMEOUT`].
pub async fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let owned = path.to_owned();
    run_blocking(path, READ_TIMEOUT, move || read_blocking(&owned, max)).await?
}

/// Runs blocking `work` on the file at `path` on a thread of its own. Returns an error after `timeout`. Work on one path is
/// serialized, so that a hanging mount blocks only one thread.
pub async fn run_blocking<T: Send + 'static>(
    path: &Path,
    timeout: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let turn = lock_of(path);
    let done = async {
        let permit = turn.acquire_owned().await.map_err(io::Error::other)?;
        let work = move || {
            let done = work();
            drop(permit);
            done
        };
        tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
    };
    tokio::time::timeout(timeout, done).await.unwrap_or_else(|_| {
        let message = format!("timed out after {timeout:?}; check its disk or mount");
        Err(io::Error::new(io::ErrorKind::TimedOut, message))
    })
}

/// The semaphore that serializes work on `path`.
fn lock_of(path: &Path) -> Arc<Semaphore> {
    static TURNS: Mutex<BTreeMap<PathBuf, Arc<Semaphore>>> = Mutex::new(BTreeMap::new());
    let mut turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
    // Remove semaphores that are not in use.
    turns.retain(|_, turn| Arc::strong_count(turn) > 1);
    Arc::clone(turns.entry(path.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_may_block_or_never_end_are_rejected() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("file"), "12345").unwrap();
        std::os::unix::fs::symlink(path("file"), path("link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
        assert_eq!(read_blocking(&path("file"), 5).unwrap(), b"12345");
        assert_eq!(read_blocking(&path("link"), 5).unwrap(), b"12345", "a link, as mounted secrets are");
        assert_eq!(read_blocking(Path::new("/dev/null"), 5).unwrap(), b"");
        for (name, error) in [
            ("file", "larger than 4 bytes"),
            ("pipe", "a named pipe"),
            (".", "a directory"),
            ("/dev/zero", "a device"),
            ("socket", "No such device or address"),
            ("gone", "No such file"),
        ] {
            let found = read_blocking(&dir.path().join(name), 4).unwrap_err().to_string();
            assert!(found.contains(error), "{name}: {found}");
        }
    }

    #[tokio::test]
    async fn a_hanging_mount_blocks_one_thread_and_times_out() {
        let (release, hangs) = std::sync::mpsc::channel::<()>();
        let (path, soon) = (Path::new("/hung/secret"), Duration::from_millis(20));
        let error = run_blocking(path, soon, move || hangs.recv().is_ok()).await.unwrap_err();
        assert!(error.to_string().contains("timed out"), "{error}");
        // The first thread still hangs; no second one is started.
        let error = run_blocking(path, soon, || unreachable!("the first one holds the lock")).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(
            run_blocking(Path::new("/other"), READ_TIMEOUT, || true).await.unwrap(),
            "another file is not affected"
        );
        drop(release);
        assert!(run_blocking(path, READ_TIMEOUT, || true).await.unwrap(), "it works again once it responds");
    }
}
