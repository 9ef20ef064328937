//! Replicas on one PostgreSQL: how long a write on one takes to the watchers on another.
//!
//! With the doorbell, and without it: then the watched replica reaches the database through pgbouncer in transaction mode,
//! which swallows notifications, and polls. Beside both, the same on a single replica.

use std::{fmt, time::Duration};

use comfy_table::{Table, presets::ASCII_MARKDOWN};

use super::{
    cases::{BREATH, write_to_callback},
    failure::Outcome,
    pgbouncer::Pooler,
    plan::Plan,
    postgres,
    report::{median, rounded, span},
    servers::Yard,
    watchers::Wiring,
};

/// Polls are so far apart; writes come at any moment between them.
const POLL: Duration = Duration::from_secs(1);

/// How the watched replica hears of the write.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Itself,
    Doorbell,
    Polling,
}

impl fmt::Display for Way {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Itself => "written on the same replica",
            Self::Doorbell => "written on another replica, doorbell",
            Self::Polling => "written on another replica, polling",
        })
    }
}

/// Measures all ways, in rounds, and prints the medians.
pub async fn measure(yard: &Yard, plan: &Plan) -> Outcome<()> {
    let database = postgres::Server::start(&["fsync=on"]);
    let pooler = Pooler::before(database.port());
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(["write to callback", "figure", "signalbox", "rounds"]);
    for way in [Way::Itself, Way::Doorbell, Way::Polling] {
        let mut rows: Vec<(&str, Vec<f64>)> = Vec::new();
        for _ in 0..plan.rounds {
            let direct = database.database().await;
            let watched = match way {
                Way::Polling => {
                    direct.replace(&format!(":{}/", database.port()), &format!(":{}/", pooler.port()))
                }
                Way::Itself | Way::Doorbell => direct.clone(),
            };
            eprintln!("load: {way}");
            for (name, value) in round(yard, plan, way, [&direct, &watched]).await? {
                match rows.iter_mut().find(|row| row.0 == name) {
                    Some(row) => row.1.push(value),
                    None => rows.push((name, vec![value])),
                }
            }
        }
        for (name, values) in rows {
            let case = format!("{} watchers, {way}", plan.crowd);
            table.add_row([case, name.to_owned(), format!("{} ms", rounded(median(&values))), span(&values)]);
        }
    }
    println!("{table}");
    Ok(())
}

/// One round, on replicas that are new.
async fn round(yard: &Yard, plan: &Plan, way: Way, urls: [&str; 2]) -> Outcome<Vec<(&'static str, f64)>> {
    let [one, other] = yard.replicas(urls).await?;
    let written = if way == Way::Itself { &other } else { &one };
    let pause = || match way {
        Way::Polling => rand::random_range(Duration::ZERO..POLL),
        _ => BREATH,
    };
    let watched = (plan.crowd, Wiring::Own);
    let figures = write_to_callback(written, &other, watched, plan.replicated_writes, pause).await?;
    Ok(figures.into_iter().map(|figure| (figure.name, figure.value)).collect())
}
