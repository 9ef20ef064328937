//! Options around workers: listing them, and waiting until they run what was written.

use std::time::Duration;

use clap::Args;

/// Options of `workers`.
#[derive(Args, Clone, Default)]
pub struct Workers {
    /// Only workers whose streams show something of this: names, `providers/*`, `kind:provider` or a collection
    #[arg(value_name = "SELECTOR")]
    pub selectors: Vec<String>,
    /// Only workers with this id; may be repeated
    #[arg(long)]
    pub id: Vec<String>,
    /// Only workers with this label, KEY=VALUE; may be repeated
    #[arg(short, long)]
    pub label: Vec<String>,
    /// Only workers that do not run the revision, and those that never report what they run
    #[arg(long)]
    pub behind: bool,
    /// The revision that they are to run, instead of the current one
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    pub revision: u64,
}

/// How many workers are enough.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quorum {
    /// All there are.
    All,
    /// So many.
    Count(u32),
    /// This share of those there are.
    Percent(u32),
}

/// Waiting until workers run what was written.
#[derive(Args, Clone, Default)]
pub struct Wait {
    /// Wait until workers run what was written: all (the default), so many (3), or a share of them (90%)
    #[arg(
        long,
        value_name = "QUORUM",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "all",
        value_parser = quorum,
        conflicts_with = "dry_run"
    )]
    pub wait: Option<Quorum>,
    /// How long to wait for them [default: 90s]
    #[arg(long, value_name = "TIME", requires = "wait", value_parser = humantime::parse_duration)]
    pub wait_timeout: Option<Duration>,
}

fn quorum(text: &str) -> Result<Quorum, String> {
    let wrong = || "must be `all`, a number of workers such as 3, or a share of them such as 90%".to_owned();
    let number = |text: &str| text.parse::<u32>().map_err(|_| wrong());
    let quorum = match text.strip_suffix('%') {
        _ if text == "all" => Quorum::All,
        Some(percent) => Quorum::Percent(number(percent)?),
        None => Quorum::Count(number(text)?),
    };
    match quorum {
        Quorum::Count(0) | Quorum::Percent(0 | 101..) => Err(wrong()),
        quorum => Ok(quorum),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quorum_is_all_a_number_or_a_share() {
        assert_eq!(quorum("all"), Ok(Quorum::All));
        assert_eq!(quorum("3"), Ok(Quorum::Count(3)));
        assert_eq!(quorum("90%"), Ok(Quorum::Percent(90)));
        for wrong in ["", "0", "0%", "101%", "most", "-1", "%"] {
            assert!(quorum(wrong).is_err(), "{wrong}");
        }
    }
}
