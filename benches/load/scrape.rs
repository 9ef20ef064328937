//! What a scrape costs under load: writes beside watchers, with somebody who reads the page of metrics each second and
//! without, and the page by itself.
//!
//! Only Signalbox is measured: the reference has no metrics.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use comfy_table::{Table, presets::ASCII_MARKDOWN};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{interval, timeout},
};

use super::{
    cases::percentile,
    failure::{Context, Failure, Outcome},
    plan::Plan,
    report::{median, rounded, span},
    servers::{Target, Yard},
    state::Payload,
    watchers::{Opening, Watchers, Wiring},
};

/// Writers, each on a resource and a connection of its own, as fast as they are answered.
const WRITERS: usize = 8;
/// As Prometheus does at its most eager.
const EVERY: Duration = Duration::from_secs(1);
/// Far more than a page takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether somebody scrapes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nobody,
    Scrapes,
}

impl fmt::Display for Beside {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Nobody => "without a scrape",
            Self::Scrapes => "with a scrape each second",
        })
    }
}

/// Figures of all rounds, by what they are and their unit.
type Rows = Vec<(String, &'static str, Vec<f64>)>;

/// Measures, in rounds, and prints the medians.
pub async fn measure(yard: &Yard, plan: &Plan) -> Outcome<()> {
    let mut rows: Rows = Vec::new();
    for number in 0..plan.rounds {
        for (name, unit, value) in round(yard, plan, number).await? {
            match rows.iter_mut().find(|row| row.0 == name) {
                Some(row) => row.2.push(value),
                None => rows.push((name, unit, vec![value])),
            }
        }
    }
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(["scrape", "figure", "signalbox", "rounds"]);
    for (name, unit, values) in rows {
        let value = format!("{} {unit}", rounded(median(&values)));
        table.add_row([format!("{} watchers", plan.crowd), name, value, span(&values)]);
    }
    println!("{table}");
    Ok(())
}

/// One round, on a server that is new.
async fn round(yard: &Yard, plan: &Plan, number: usize) -> Outcome<Vec<(String, &'static str, f64)>> {
    let target = Arc::new(yard.with_http(Payload::Providers, WRITERS).await?);
    let watchers = Watchers::open(&target, Opening::quiet(plan.crowd, Wiring::Own), 0).await?;
    let mut ways = [Beside::Nobody, Beside::Scrapes];
    // What comes second finds everything warm, and a longer log.
    if number % 2 == 1 {
        ways.reverse();
    }
    let (mut figures, mut written) = (Vec::new(), Vec::new());
    // Numbers of their own for each: what changes nothing makes no revision.
    load(&target, plan.time, &mut written).await?;
    for way in ways {
        eprintln!("load: writes beside {} watchers, {way}", plan.crowd);
        let scraping = (way == Beside::Scrapes).then(|| tokio::spawn(keep_scraping(Arc::clone(&target))));
        let loaded = load(&target, plan.time * 4, &mut written).await;
        if let Some(scraping) = scraping {
            if scraping.is_finished() {
                return Err(scraping.await?.err().unwrap_or_else(|| Failure::new("nobody scraped")));
            }
            scraping.abort();
        }
        let (rate, mut times) = loaded?;
        figures.push((format!("writes, {way}"), "/s", rate));
        figures.push((format!("p50 of a write, {way}"), "ms", percentile(&mut times, 0.5)));
        figures.push((format!("p99 of a write, {way}"), "ms", percentile(&mut times, 0.99)));
    }
    watchers.arrived(written.len() * plan.crowd).await?;
    watchers.check(written)?;
    figures.extend(alone(&target, plan).await?);
    Ok(figures)
}

/// Writes for so long; gives the writes a second and how long each took, in ms.
async fn load(target: &Arc<Target>, time: Duration, written: &mut Vec<u64>) -> Outcome<(f64, Vec<f64>)> {
    let before = written.len();
    let mut tasks = JoinSet::new();
    let began = Instant::now();
    for writer in 0..WRITERS {
        let (link, state) = (target.admin().await?, Arc::clone(&target.state));
        tasks.spawn(async move {
            let mut done = Vec::new();
            while began.elapsed() < time {
                let called = Instant::now();
                let revision = link.write(state.update(writer, before + done.len() + 1)).await?.revision;
                done.push((revision, called.elapsed().as_secs_f64() * 1e3));
            }
            Outcome::Ok(done)
        });
    }
    let mut times = Vec::new();
    while let Some(done) = tasks.join_next().await {
        for (revision, took) in done?? {
            written.push(revision);
            times.push(took);
        }
    }
    Ok((times.len() as f64 / began.elapsed().as_secs_f64(), times))
}

/// Ends only with a failure.
async fn keep_scraping(target: Arc<Target>) -> Outcome<()> {
    let mut pace = interval(EVERY);
    loop {
        pace.tick().await;
        page(&target).await?;
    }
}

/// The page by itself, while the watchers are there and nothing is written.
async fn alone(target: &Target, plan: &Plan) -> Outcome<Vec<(String, &'static str, f64)>> {
    let (mut times, mut bytes) = (Vec::new(), 0);
    let before = target.cpu()?;
    for _ in 0..plan.scrapes {
        let called = Instant::now();
        let page = page(target).await?;
        times.push(called.elapsed().as_secs_f64() * 1e3);
        bytes = page.len();
        let watchers = format!("signalbox_watchers{{}} {}\n", plan.crowd);
        if !page.contains(&watchers) {
            return Err(Failure::new(format!("the page does not have {watchers}")));
        }
    }
    let cpu = (target.cpu()? - before) * 1e3 / plan.scrapes as f64;
    Ok(vec![
        ("a scrape by itself, p50".to_owned(), "ms", percentile(&mut times, 0.5)),
        ("a scrape by itself, p99".to_owned(), "ms", percentile(&mut times, 0.99)),
        ("server CPU for a scrape".to_owned(), "ms", cpu),
        ("the page".to_owned(), "KiB", bytes as f64 / 1024.0),
    ])
}

/// The page of metrics, on a connection of its own.
async fn page(target: &Target) -> Outcome<String> {
    let address = target.http_address()?;
    let token = &target.state.admin_token;
    let asked = async {
        let mut stream = TcpStream::connect(&address).await?;
        let request = format!(
            "GET /metrics HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Outcome::Ok(answer)
    };
    let answer = timeout(PATIENCE, asked).await.map_err(|_| Failure::new("the page did not come"))??;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a head")?;
    match head.starts_with("HTTP/1.1 200 ") {
        true => Ok(body.to_owned()),
        false => Err(Failure::new(format!("/metrics: {}", head.lines().next().unwrap_or_default()))),
    }
}
