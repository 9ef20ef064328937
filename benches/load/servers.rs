//! The servers under measure: each in a process and a folder of its own, begun anew for each case.

use std::{
    fmt::{self, Display},
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use prost::Message;
use signalbox::proto::v1::Snapshot;
use tempfile::TempDir;

use super::{
    bare,
    failure::{Context, Failure, Outcome},
    link::Link,
    state::{Payload, State},
};

/// Far more than a start takes, so that only a server that will never be ready runs into it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Ticks of the CPU counters in `/proc`: on Linux the same for every architecture that programs see.
const TICKS_A_SECOND: f64 = 100.0;

/// Which server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The product.
    Signalbox,
    /// The reference.
    Bare,
}

impl Display for Side {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Signalbox => "signalbox",
            Self::Bare => "bare tonic",
        })
    }
}

/// Where the servers come from, and where they keep their data.
pub struct Yard {
    /// The binary of Signalbox.
    pub signalbox: PathBuf,
    /// Where the folders are made; its disk is the one that is synced to.
    pub folder: PathBuf,
}

/// A server that is running, with something in it.
pub struct Target {
    process: Process,
    /// `host:port`.
    pub address: String,
    /// What is in it, and the tokens for it.
    pub state: Arc<State>,
}

impl Yard {
    /// Starts Signalbox and fills it with so many resources.
    pub async fn signalbox(&self, payload: Payload, count: usize) -> Outcome<Target> {
        self.filled(self.serve("off"), payload, count).await
    }

    /// The same, with its pages.
    pub async fn with_http(&self, payload: Payload, count: usize) -> Outcome<Target> {
        self.filled(self.serve("127.0.0.1:0"), payload, count).await
    }

    async fn filled(&self, serve: Command, payload: Payload, count: usize) -> Outcome<Target> {
        let folder = tempfile::tempdir_in(&self.folder).context("a folder for the server")?;
        let (process, address) = Process::start(serve, folder, &[]).await.context("signalbox")?;
        let token = fs::read_to_string(process.folder.path().join("data/admin.token"))
            .context("the token of the first administrator")?;
        let state = State::make(&address, token.trim(), payload, count).await.context("filling signalbox")?;
        Ok(Target { process, address, state: Arc::new(state) })
    }

    fn serve(&self, http: &str) -> Command {
        let mut command = Command::new(&self.signalbox);
        command.args(["serve", "--listen", "127.0.0.1:0", "--http-listen", http, "--data-dir", "data"]);
        command.args(["--starters", "off"]);
        command
    }

    /// Starts two replicas of Signalbox on an empty PostgreSQL, each by a URL of its own, with one resource in it.
    pub async fn replicas(&self, urls: [&str; 2]) -> Outcome<[Target; 2]> {
        let key = self.printed(&["keys", "generate"], &[])?;
        let environment = |url| [("SIGNALBOX_DATABASE_URL", url), ("ENCRYPTION_KEY", key.as_str())];
        let mut started = Vec::new();
        for url in urls {
            let folder = tempfile::tempdir_in(&self.folder).context("a folder for a replica")?;
            started.push(
                Process::start(self.serve("off"), folder, &environment(url)).await.context("a replica")?,
            );
        }
        let local = ["token", "create", "--local", "--role", "admin", "--grant-secrets", "--ttl", "48h"];
        let token = self.printed(&local, &environment(urls[0]))?;
        let state = State::make(&started[0].1, &token, Payload::Providers, 1).await.context("filling it")?;
        let state = Arc::new(state);
        let target = |(process, address)| Target { process, address, state: Arc::clone(&state) };
        let targets: Vec<Target> = started.into_iter().map(target).collect();
        let targets: [Target; 2] = targets.try_into().map_err(|_| Failure::new("two were started"))?;
        targets[1].has_heard().await?;
        Ok(targets)
    }

    /// What a command line of Signalbox prints.
    fn printed(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Outcome<String> {
        let folder = tempfile::tempdir_in(&self.folder).context("a folder for a command")?;
        let mut command = Command::new(&self.signalbox);
        command.args(arguments).current_dir(folder.path()).env_clear().envs(environment.iter().copied());
        let output = command.output().context(arguments.join(" "))?;
        if !output.status.success() {
            return Err(Failure::new(String::from_utf8_lossy(&output.stderr)));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Starts the reference, with what Signalbox was seen to hold.
    pub async fn bare(&self, state: &Arc<State>) -> Outcome<Target> {
        let folder = tempfile::tempdir_in(&self.folder).context("a folder for the reference")?;
        let snapshot = Snapshot { revision: 1, resources: state.resources.clone(), last: true };
        fs::write(folder.path().join(bare::STATE_FILE), snapshot.encode_to_vec())?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bare", "."]);
        let (process, address) = Process::start(command, folder, &[]).await.context("the reference")?;
        Ok(Target { process, address, state: Arc::clone(state) })
    }
}

impl Target {
    /// A connection with the administrator's token.
    pub async fn admin(&self) -> Outcome<Link> {
        Link::open(&self.address, &self.state.admin_token).await
    }

    /// A connection with the worker's token.
    pub async fn worker(&self) -> Outcome<Link> {
        Link::open(&self.address, &self.state.worker_token).await
    }

    /// `host:port` of its pages.
    pub fn http_address(&self) -> Outcome<String> {
        let http = self.process.line.split_once("HTTP on ").and_then(|(_, rest)| address(rest));
        http.context("it has no listener for HTTP")
    }

    /// Waits until it knows what was written through another replica.
    async fn has_heard(&self) -> Outcome<()> {
        let (link, begin) = (self.admin().await?, Instant::now());
        while let Err(failure) = link.read(&self.state.resources[0].name).await {
            if begin.elapsed() > PATIENCE {
                return Err(failure);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Memory that the server holds, in KiB.
    pub fn memory(&self) -> Outcome<f64> {
        let path = format!("/proc/{}/status", self.process.child.id());
        let status = fs::read_to_string(&path).context(&path)?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")).context("no VmRSS")?;
        kib.parse().context(path)
    }

    /// CPU time that the server has used, in seconds.
    pub fn cpu(&self) -> Outcome<f64> {
        cpu_of(self.process.child.id())
    }
}

/// CPU time that this process has used, in seconds.
pub fn own_cpu() -> Outcome<f64> {
    cpu_of("self")
}

fn cpu_of(process: impl Display) -> Outcome<f64> {
    let path = format!("/proc/{process}/stat");
    let stat = fs::read_to_string(&path).context(&path)?;
    // The name of the program, in brackets, may hold anything; the two counters are the 12th and 13th behind it.
    let (_, behind) = stat.rsplit_once(')').context("an unknown form of /proc/…/stat")?;
    let ticks: f64 =
        behind.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / TICKS_A_SECOND)
}

/// A child that is killed when it is let go of, and its folder.
struct Process {
    child: Child,
    folder: TempDir,
    /// What it said when it was ready.
    line: String,
    /// Held open, so that the server never meets a closed pipe.
    _output: Option<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts a server in a folder, with nothing in its environment but what is given, and waits for the line that
    /// names its address.
    async fn start(
        mut command: Command,
        folder: TempDir,
        environment: &[(&str, &str)],
    ) -> Outcome<(Self, String)> {
        let log = folder.path().join("stderr.log");
        command.current_dir(folder.path()).env_clear().stdin(Stdio::null()).stdout(Stdio::piped());
        command.envs(environment.iter().copied()).stderr(File::create(&log)?);
        let mut child = command.spawn().context(command.get_program().display())?;
        let output = child.stdout.take().map(BufReader::new);
        let mut process = Self { child, folder, line: String::new(), _output: None };
        let reading = tokio::task::spawn_blocking(move || first_line(output));
        let line = tokio::time::timeout(PATIENCE, reading).await;
        if let Ok(Ok(Ok((line, output)))) = line
            && let Some(address) = address(&line)
        {
            process._output = output;
            process.line = line;
            return Ok((process, address));
        }
        Err(Failure::new(format!("was not ready within {PATIENCE:?}, or ended; its log:\n{}", tail(&log))))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Only a child that has ended can't be killed, and that is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

type Output = Option<BufReader<ChildStdout>>;

fn first_line(mut output: Output) -> std::io::Result<(String, Output)> {
    let mut line = String::new();
    if let Some(output) = &mut output {
        output.read_line(&mut line)?;
    }
    Ok((line, output))
}

/// The first `host:port` on loopback in a line.
fn address(line: &str) -> Option<String> {
    let (_, behind) = line.split_once("127.0.0.1:")?;
    let port = behind.split(|c: char| !c.is_ascii_digit()).next()?;
    (!port.is_empty()).then(|| format!("127.0.0.1:{port}"))
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
