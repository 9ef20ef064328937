//! `serve`: reads the settings and hands over to the server.

use tokio::signal::unix::{SignalKind, signal};

use super::{
    failure::{Exit, Failure, Outcome},
    server_flags::ServerFlags,
    session::Session,
};
use crate::settings::Settings;

/// Runs the server until it is told to stop.
pub async fn run(session: &mut Session<'_>, flags: &ServerFlags) -> Outcome {
    let settings = settings(session, flags)?;
    serve(settings, until_told()).await
}

/// The server's settings, or everything that is wrong with them.
pub fn settings(session: &Session<'_>, flags: &ServerFlags) -> Result<Settings, Failure> {
    Settings::load(&flags.0, session.env).map_err(|problems| match problems.0.as_slice() {
        [only] => Failure::usage(only.to_string()),
        many => {
            let lines: Vec<String> = many.iter().map(|problem| format!("  {problem}")).collect();
            Failure::usage(format!("{} settings are wrong\n{}", many.len(), lines.join("\n")))
        }
    })
}

/// SEAM: `app::run(settings, ready, stop)`; `ready` prints the one line that names the addresses.
async fn serve(_settings: Settings, _stop: impl Future<Output = ()> + Send) -> Outcome {
    Err(Failure::told(Exit::Failed, "this build has no server in it"))
}

/// Comes to its end at the first ctrl-c or SIGTERM.
async fn until_told() {
    let interrupt = tokio::signal::ctrl_c();
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = interrupt => {}
                _ = terminate.recv() => {}
            }
        }
        // Without SIGTERM there is still ctrl-c.
        Err(_) => drop(interrupt.await),
    }
}
