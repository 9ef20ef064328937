//! A throw-away PostgreSQL for tests: started from the server binaries of the machine, gone when the test process is.
//!
//! `DATABASE_URL` names another server to make databases on; then nothing is started. Included by path, because not every
//! test needs it.

// Each test file is a crate of its own and uses a part of this.
#![allow(dead_code, clippy::expect_used, clippy::unwrap_used, clippy::panic)]

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, postgres::PgConnectOptions};

/// The superuser of servers that were started here.
const USER: &str = "signalbox";
/// Longer than a start takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ends the server when its standard input ends: when the test process lets go of it, or dies, however it dies.
const WATCHDOG: &str = r#"read -r _
server=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
if [ -n "$server" ]; then
    for process in $server $(cat "/proc/$server/task/$server/children" 2>/dev/null); do
        kill -CONT "$process" 2>/dev/null
    done
    kill -QUIT "$server" 2>/dev/null
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        [ -e "$1/data/postmaster.pid" ] || break
        sleep 0.2
    done
fi
rm -rf "$1""#;

/// A server.
pub struct Server {
    /// Held open: see [`WATCHDOG`].
    _watchdog: Option<Child>,
    server: Option<Child>,
    directory: PathBuf,
    port: u16,
    /// URL of a database from which others are made.
    admin: String,
}

static SHARED: OnceLock<Server> = OnceLock::new();
static COUNTER: AtomicU64 = AtomicU64::new(1);

/// The server that the tests of this binary share.
pub fn shared() -> &'static Server {
    SHARED.get_or_init(|| match std::env::var("DATABASE_URL") {
        Ok(admin) => Server { _watchdog: None, server: None, directory: PathBuf::new(), port: 0, admin },
        Err(_) => Server::start(&[]),
    })
}

/// The newest server binaries of the machine.
fn binaries() -> PathBuf {
    let packaged = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = packaged.map(|entry| entry.path().join("bin")).collect();
    found.retain(|path| path.join("initdb").exists());
    found.sort_by_key(|path| {
        let version = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        version.and_then(|version| version.parse::<u32>().ok())
    });
    let in_path = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    found.pop().or_else(|| in_path?.into_iter().find(|path| path.join("initdb").exists())).expect(
        "the server binaries of PostgreSQL are missing: run scripts/tools as root, or set DATABASE_URL",
    )
}

/// A command that runs as somebody else than root, whom PostgreSQL refuses.
fn unprivileged(program: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={}", account())).arg(format!("--regid={}", group())).arg("--clear-groups");
    command.arg("--").arg(program);
    command
}

fn account() -> String {
    id("-u")
}

fn group() -> String {
    id("-g")
}

/// A number of the user that the server runs as.
fn id(which: &str) -> String {
    for user in ["postgres", "nobody"] {
        let found = Command::new("id").args([which, user]).output().unwrap();
        if found.status.success() {
            return String::from_utf8(found.stdout).unwrap().trim().to_owned();
        }
    }
    panic!("there is no user to run PostgreSQL as");
}

impl Server {
    /// Starts a server with settings of its own, such as `fsync=on`. It listens on the loopback only.
    pub fn start(settings: &[&str]) -> Self {
        let mut initdb = unprivileged(&binaries().join("initdb"));
        initdb.args(["--no-sync", "-A", "trust", "-E", "UTF8", "--locale=C", "-U", USER, "-D"]);
        Self::made_by(initdb, settings)
    }

    /// A standby that follows this server, and answers reads.
    pub fn standby(&self) -> Self {
        let mut copy = unprivileged(&binaries().join("pg_basebackup"));
        copy.args(["-R", "-X", "stream", "-c", "fast", "--no-sync", "-h", "127.0.0.1", "-U", USER]);
        copy.args(["-p", &self.port.to_string(), "-D"]);
        Self::made_by(copy, &["fsync=on"])
    }

    /// No longer follows: what is committed from now on does not arrive.
    pub async fn fall_behind(&self) {
        run(&self.admin, "ALTER SYSTEM SET primary_conninfo = ''").await;
        run(&self.admin, "SELECT pg_reload_conf()").await;
        let begin = Instant::now();
        let mut asking = connect(&self.admin).await;
        while !sqlx::raw_sql("SELECT 1 FROM pg_stat_wal_receiver")
            .fetch_all(&mut asking)
            .await
            .unwrap()
            .is_empty()
        {
            assert!(begin.elapsed() < PATIENCE, "the standby still follows");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Makes a standby the server that takes writes.
    pub async fn promote(&self) {
        run(&self.admin, "SELECT pg_promote(true, 30)").await;
    }

    /// A server whose data a command makes.
    fn made_by(mut command: Command, settings: &[&str]) -> Self {
        let directory = tempfile::Builder::new().prefix("signalbox-pg-").tempdir().unwrap().keep();
        if rustix::process::geteuid().is_root() {
            let owner = format!("{}:{}", account(), group());
            assert!(Command::new("chown").arg(owner).arg(&directory).status().unwrap().success());
        }
        let made = command.arg(directory.join("data")).current_dir(&directory).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut watchdog = Command::new("sh");
        watchdog.args(["-c", WATCHDOG, "watchdog"]).arg(&directory).stdin(Stdio::piped());
        let watchdog = Some(watchdog.spawn().unwrap());
        let admin = format!("postgres://{USER}@127.0.0.1:{port}/postgres");
        let mut server = Self { _watchdog: watchdog, server: None, directory, port, admin };
        server.run(settings);
        server
    }

    /// Starts it again, after [`Server::stop`].
    pub fn run(&mut self, settings: &[&str]) {
        let mut server = unprivileged(&binaries().join("postgres"));
        server.arg("-D").arg(self.directory.join("data")).arg("-k").arg(&self.directory);
        server.args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
        server.args(["-c", "max_connections=300", "-c", "fsync=off", "-c", "shared_buffers=32MB"]);
        settings.iter().for_each(|setting| {
            server.args(["-c", setting]);
        });
        let log = fs::File::create(self.directory.join("log")).unwrap();
        server.current_dir(&self.directory).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.server = Some(server.spawn().unwrap());
        let ready = binaries().join("pg_isready");
        let begin = Instant::now();
        loop {
            let mut asked = Command::new(&ready);
            asked.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
            if asked.status().unwrap().success() {
                return;
            }
            let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            assert!(begin.elapsed() < PATIENCE, "PostgreSQL does not start: {log}");
            sleep(Duration::from_millis(50));
        }
    }

    /// Writes a file that only the server may read; its path.
    pub fn give(&self, name: &str, text: &str) -> String {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.directory.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        if rustix::process::geteuid().is_root() {
            assert!(Command::new("chown").arg(account()).arg(&path).status().unwrap().success());
        }
        path.display().to_string()
    }

    /// The port on the loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's main process.
    fn postmaster(&self) -> Option<Pid> {
        let file = fs::read_to_string(self.directory.join("data/postmaster.pid")).ok()?;
        Pid::from_raw(file.lines().next()?.parse().ok()?)
    }

    /// Sends a signal to the server and all its processes.
    fn signal(&self, signal: Signal) {
        let postmaster = self.postmaster().unwrap();
        kill_process(postmaster, signal).unwrap();
        let pid = postmaster.as_raw_nonzero();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        for child in children.split_whitespace().filter_map(|child| Pid::from_raw(child.parse().ok()?)) {
            // One may have ended meanwhile.
            let _ = kill_process(child, signal);
        }
    }

    /// Stops every process where it is: connections stay open and nothing answers.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets them go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Ends the server at once, as `pg_ctl stop -m immediate` would. Its data stay.
    pub fn stop(&mut self) {
        kill_process(self.postmaster().unwrap(), Signal::QUIT).unwrap();
        self.server.take().unwrap().wait().unwrap();
    }

    /// Keeps a copy of the data of a server that was stopped, in place of an earlier one.
    pub fn save(&self) {
        let earlier = self.directory.join("saved");
        if earlier.exists() {
            fs::remove_dir_all(earlier).unwrap();
        }
        self.copy("data", "saved");
    }

    /// Puts the copy back, while the server is stopped: whatever was committed since is lost.
    pub fn restore(&self) {
        fs::remove_dir_all(self.directory.join("data")).unwrap();
        self.copy("saved", "data");
    }

    fn copy(&self, from: &str, to: &str) {
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(self.directory.join(from)).arg(self.directory.join(to));
        assert!(copy.status().unwrap().success());
    }

    /// URL of a database of this name.
    pub fn url(&self, name: &str) -> String {
        let (server, _) = self.admin.rsplit_once('/').unwrap();
        format!("{server}/{name}")
    }

    /// Makes an empty database; its URL.
    pub async fn database(&self) -> String {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("signalbox_test_{}_{number}", std::process::id());
        let mut admin = connect(&self.admin).await;
        let text = format!("CREATE DATABASE {name}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&mut admin).await.unwrap();
        admin.close().await.unwrap();
        self.url(&name)
    }
}

/// Another connection to a database.
pub async fn connect(url: &str) -> PgConnection {
    let options: PgConnectOptions = url.parse().unwrap();
    options.disable_statement_logging().connect().await.unwrap()
}

/// Runs SQL on a database, as someone with `psql` would.
pub async fn run(url: &str, sql: &str) {
    let mut connection = connect(url).await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// The port that a URL leads to.
pub fn port_of(url: &str) -> u16 {
    url.parse::<PgConnectOptions>().unwrap().get_port()
}

/// The number that SQL asks a database for.
pub async fn count(url: &str, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(&mut connect(url).await).await.unwrap()
}
