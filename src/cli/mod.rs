//! The command line: one file a verb, and beside them what they share.
//!
//! It speaks to the server through its API like everybody else, and starts it through `app`. It must not know how
//! the server works. To add a verb: its options in `args`, a file for it, a line in `dispatch`.

mod args;
mod columns;
mod confirm;
mod connect;
mod default;
mod delete;
mod diff;
mod doctor;
mod document;
mod edit;
mod explain;
mod export;
mod failure;
mod health;
mod history;
mod import;
mod input;
mod keys;
mod migrate;
mod probe;
mod read;
mod reference;
mod render;
mod rollback;
mod rotation;
mod scalar;
mod schema;
mod secret_source;
mod selector;
mod serve;
mod server_flags;
mod session;
mod set;
mod status;
mod switch;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod token;
mod watch;
mod workers;

use std::{
    ffi::OsString,
    io::{self, IsTerminal},
};

use clap::{CommandFactory, Parser};

pub use self::failure::Exit;
use self::{
    args::{Cli, Verb},
    failure::{Failure, Outcome},
    session::Session,
};
use crate::{
    domain::{Release, SystemClock},
    import::tree,
    settings::Env,
};

/// Runs one command line, and tells what the process should end with.
pub fn run(arguments: impl IntoIterator<Item = OsString>, env: Env<'_>) -> Exit {
    run_as(Release::CURRENT, arguments, env)
}

/// As [`run`], as the binary of another release: one that supports only an older level, or knows a newer schema.
pub fn run_as(release: Release, arguments: impl IntoIterator<Item = OsString>, env: Env<'_>) -> Exit {
    let mut cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(told) => return tell_usage(&told),
    };
    // Another part of the process may have chosen a provider already; that one serves as well.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // Not locked: the server's threads write as well.
    let mut session = Session {
        out: &mut io::stdout(),
        err: &mut io::stderr(),
        input: &mut io::stdin(),
        env,
        release,
        clock: &SystemClock,
        interactive: io::stdin().is_terminal() && io::stderr().is_terminal(),
        format: cli.output,
        quiet: cli.quiet,
    };
    let request = cli.verb.name_request();
    let outcome = start(&mut session, &cli).and_then(|()| Ok(session.out.flush()?));
    let Err(failure) = outcome else { return Exit::Ok };
    let failure = match request {
        Some(id) => failure.of_request(&id),
        None => failure,
    };
    let text = failure.to_string();
    if !text.is_empty() {
        // If even this can't be written, the exit code still tells.
        let _ = writeln!(session.err, "error: {text}");
    }
    failure.exit()
}

/// Help and version go to standard output and are no failure.
fn tell_usage(told: &clap::Error) -> Exit {
    let _ = told.print();
    if told.use_stderr() { Exit::Usage } else { Exit::Ok }
}

fn start(session: &mut Session<'_>, cli: &Cli) -> Outcome {
    // Only the server has work for several threads.
    let mut builder = match cli.verb {
        Verb::Serve(_) => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = builder
        .enable_all()
        .build()
        .map_err(|error| Failure::told(Exit::Failed, format!("can't start: {error}")))?;
    runtime.block_on(Box::pin(dispatch(session, cli)))
}

async fn dispatch(session: &mut Session<'_>, cli: &Cli) -> Outcome {
    let target = &cli.target;
    let outcome = match &cli.verb {
        Verb::Serve(args) => serve::run(session, &args.flags).await,
        Verb::Get(args) => read::get(session, target, args).await,
        Verb::List(args) => read::list(session, target, args).await,
        Verb::Set(args) => set::set(session, target, args).await,
        Verb::Delete(args) => delete::delete(session, target, args).await,
        Verb::Watch(args) => watch::watch(session, target, args).await,
        Verb::Export(args) => export::export(session, target, args).await,
        Verb::Import(args) => import::import(session, target, args).await,
        Verb::Explain(args) => explain::explain(session, target, args).await,
        Verb::History(args) => history::history(session, target, args).await,
        Verb::Diff(args) => history::diff(session, target, args).await,
        Verb::Rollback(args) => rollback::rollback(session, target, args).await,
        Verb::Default(args) => default::default(session, target, args).await,
        Verb::Switch(args) => switch::switch(session, target, args).await,
        Verb::Test(args) => probe::test(session, target, args).await,
        Verb::Render(args) => render::render(session, target, args).await,
        Verb::Discover(args) => probe::discover(session, target, args).await,
        Verb::Health(args) => health::health(session, target, args).await,
        Verb::Workers(args) => workers::workers(session, target, args).await,
        Verb::Status => status::status(session, target).await,
        Verb::RaiseFeatureLevel => status::raise_feature_level(session, target).await,
        Verb::Token(verb) => token::token(session, target, verb).await,
        Verb::Keys(verb) => keys::keys(session, target, verb).await,
        Verb::Doctor(args) => doctor::doctor(session, target, args).await,
        Verb::Migrate(args) => migrate::migrate(session, args).await,
        Verb::Completions { shell } => completions(session, *shell),
    };
    outcome.map_err(|failure| connect::advise(failure, session, target))
}

/// Made in memory first: the generator panics when nobody reads.
fn completions(session: &mut Session<'_>, shell: clap_complete::Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "signalbox", &mut script);
    session.out.write_all(&script)?;
    Ok(())
}
