//! `serve`: reads the settings and hands over to the server.

use std::{
    ffi::OsStr,
    io::Write,
    path::Path,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use chrono::SecondsFormat;
use futures_util::FutureExt as _;
use serde_json::json;

use super::{
    failure::{Exit, Failure, Outcome},
    server_flags::ServerFlags,
    session::Session,
};
use crate::{
    app::{self, Addresses, Surroundings},
    domain::{Clock as _, ReplicaId, SystemClock},
    lifecycle,
    settings::{LogFormat, Settings},
    telemetry::{self, Metrics},
};

/// How long the last traces may take to be sent, after everything else has ended.
const LAST_TRACES: Duration = Duration::from_secs(2);

/// Runs the server until it is told to stop.
pub async fn run(session: &mut Session<'_>, flags: &ServerFlags) -> Outcome {
    let settings = settings(session, flags)?;
    let around = Surroundings::new(&|name| session.env.get(name).map(OsStr::to_owned), Path::new("."));
    serve(settings, around).await
}

/// The server's settings, or everything that is wrong with them.
pub fn settings(session: &Session<'_>, flags: &ServerFlags) -> Result<Settings, Failure> {
    let mut settings =
        Settings::load(&flags.0, session.env).map_err(|problems| match problems.0.as_slice() {
            [only] => Failure::usage(only.to_string()),
            many => {
                let lines: Vec<String> = many.iter().map(|problem| format!("  {problem}")).collect();
                Failure::usage(format!("{} settings are wrong\n{}", many.len(), lines.join("\n")))
            }
        })?;
    settings.cluster.release = session.release;
    Ok(settings)
}

/// Runs the server, and says in one line on standard output when it serves, and where.
async fn serve(settings: Settings, around: Surroundings) -> Outcome {
    let replica = ReplicaId::random();
    let deadline = settings.shutdown.deadline;
    let metrics = Metrics::default();
    let telemetry = telemetry::init(&settings.log, settings.traces.as_ref(), &replica, &metrics)
        .map_err(Failure::usage)?;
    let stop =
        lifecycle::signals().map_err(|error| Failure::told(Exit::Failed, format!("signals: {error}")))?;
    let format = settings.log.format;
    let told = Arc::new(OnceLock::new());
    let stop = {
        let told = Arc::clone(&told);
        stop.inspect(move |()| {
            let _ = told.set(Instant::now());
        })
    };
    let served =
        app::run(settings, (replica, metrics), around, |addresses| announce(addresses, format), stop).await;
    // Whatever took its time before: the process ends by its deadline.
    let left = deadline.saturating_sub(told.get().map_or(Duration::ZERO, Instant::elapsed));
    telemetry.end(left.min(LAST_TRACES)).await;
    served.map_err(|error| Failure::told(Exit::Failed, error.to_string()))
}

/// Says where it serves, in the form that the log has.
fn announce(addresses: &Addresses, format: LogFormat) {
    let scheme = if addresses.tls { "https" } else { "http" };
    let grpc = format!("{scheme}://{}", addresses.grpc);
    let http = addresses.http.map(|address| format!("{scheme}://{address}"));
    let health = addresses.health.map(|address| address.to_string());
    let line = match format {
        LogFormat::Text => {
            let http = http.map(|url| format!(", HTTP on {url}")).unwrap_or_default();
            let health = health.map(|address| format!(", health on {address}")).unwrap_or_default();
            format!("signalbox is ready: gRPC on {grpc}{http}{health}")
        }
        LogFormat::Json => {
            let time = SystemClock.now().to_rfc3339_opts(SecondsFormat::Micros, true);
            let fields =
                json!({ "message": "signalbox is ready", "grpc": grpc, "http": http, "health": health });
            json!({ "timestamp": time, "level": "INFO", "fields": fields, "target": "signalbox" }).to_string()
        }
    };
    // Whoever closed standard output does not want to know.
    let _ = writeln!(std::io::stdout(), "{line}");
}
