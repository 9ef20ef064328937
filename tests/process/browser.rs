//! A page in a real browser that talks gRPC-Web to the server: what the browser itself demands, CORS above all, is met.

use std::{
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc::{self, UnboundedReceiver},
};

use crate::{
    calls::token,
    harness::{
        Server,
        api::{Api, setting},
        command, within,
    },
};
use signalbox::proto::v1::Role;

/// A browser starts slowly on a busy machine.
const BROWSER: Duration = Duration::from_secs(120);

/// Where Debian and others install it.
const PROGRAMS: [&str; 3] = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/// What a browser needs to start without a user, a display or a network.
const FLAGS: [&str; 12] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
    "--remote-debugging-port=0",
];

/// A browser and its helpers, which go with the test however that ends.
struct Browser(Child);

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_page_in_a_browser_receives_a_change() {
    let Some(program) = PROGRAMS.into_iter().find(|program| Path::new(program).exists()) else {
        panic!("no browser: scripts/tools installs Debian's chromium where it may");
    };
    let site = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", site.local_addr().unwrap());
    let server = Server::start_with(&["--cors-allowed-origins", &origin]).await;
    let mut api = Api::admin(&server).await;
    api.create("settings/a", setting("first")).await;
    let worker = token(&server, Role::Worker, "browser").await;
    let page =
        include_str!("../browser/watch.html").replace("@server@", server.url()).replace("@token@", &worker);
    let mut saw = serve(site, page);
    let profile = tempfile::tempdir().unwrap();
    let mut browser = command(program, profile.path());
    browser.args(FLAGS).arg(format!("--user-data-dir={}", profile.path().display())).arg(&origin);
    let browser = browser.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn().unwrap();
    let browser = Browser(browser);
    let told = within(BROWSER, "the page tells what it saw", async {
        let mut told = Vec::new();
        while let Some(what) = saw.recv().await {
            if what == "synced" {
                api.create("settings/from_outside", setting("second")).await;
            }
            let last = what.starts_with("changes") || what.starts_with("error");
            told.push(what);
            if last {
                break;
            }
        }
        told
    })
    .await;
    drop(browser);
    assert_eq!(told, ["list true", "trailers grpc-status:0", "snapshot", "synced", "changes true"]);
}

/// Serves the page to whoever asks, and hears what it tells.
fn serve(site: TcpListener, page: String) -> UnboundedReceiver<String> {
    let (send, saw) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = site.accept().await {
            let (send, page) = (send.clone(), page.clone());
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n")
                    && stream.read_buf(&mut head).await.is_ok_and(|read| read > 0)
                {}
                let head = String::from_utf8_lossy(&head).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default();
                let content = match path.strip_prefix("/saw?") {
                    Some(what) => {
                        let what = percent_encoding::percent_decode_str(what).decode_utf8_lossy();
                        let _ = send.send(what.into_owned());
                        String::new()
                    }
                    None if path == "/" => page,
                    None => String::new(),
                };
                let length = content.len();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{content}"
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    saw
}
