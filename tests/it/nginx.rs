//! nginx in front of the program: its defaults, so that it speaks HTTP/1.0 to the program and buffers answers.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::program::eventually;

/// A running proxy.
pub(crate) struct Nginx {
    child: Option<Child>,
    address: SocketAddr,
    config: PathBuf,
    folder: TempDir,
}

impl Nginx {
    /// A free address to listen on, for configurations that name it before it is used.
    pub(crate) fn free() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address")
    }

    /// Starts it with the `locations` of its one server; `options` are those of its listener.
    pub(crate) fn start(address: SocketAddr, options: &str, locations: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder for nginx");
        let path = folder.path().display();
        let text = format!(
            "daemon off; master_process off; pid {path}/nginx.pid; error_log stderr; events {{}}\n\
             http {{ access_log off; client_body_temp_path {path}/body; proxy_temp_path {path}/proxy;\n\
             fastcgi_temp_path {path}/f; uwsgi_temp_path {path}/u; scgi_temp_path {path}/s;\n\
             proxy_buffering on;\n\
             server {{ listen {address} {options}; {locations} }} }}\n",
        );
        let config = folder.path().join("nginx.conf");
        std::fs::write(&config, text).expect("a configuration");
        let mut nginx = Self { child: None, address, config, folder };
        nginx.go_on();
        nginx
    }

    /// Starts it again after [`Self::cut`].
    pub(crate) fn go_on(&mut self) {
        let mut command = Command::new("nginx");
        command.arg("-p").arg(self.folder.path()).arg("-c").arg(&self.config);
        self.child = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("nginx"));
        eventually("nginx listens", || TcpStream::connect(self.address).ok());
    }

    /// Ends it in the middle of what it does.
    pub(crate) fn cut(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already.
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Its root.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.cut();
    }
}
