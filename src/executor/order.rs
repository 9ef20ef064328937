//! Who is asked first: the router's strategy, and what is remembered for it from call to call.
//!
//! Owns nothing but that order. Whoever comes first, the others are its fallbacks. Must not know HTTP.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::model;
use crate::{
    client::{Provider, Snapshot},
    proto::v1::RoutingStrategy,
};

/// How much the newest time counts in the average by which the fastest provider is found.
const NEWEST: f64 = 0.3;
/// Whoever asks to be left alone for longer is tried again after this.
const LONGEST_LEFT_ALONE: Duration = Duration::from_secs(3_600);
/// Providers that are left alone at most.
const MOST_LEFT_ALONE: usize = 1_024;
/// Decimal places of a price that count; more are cut.
const PLACES: usize = 12;

/// What is remembered, shared by clones. It has an entry for each provider and router that was asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory(Arc<Mutex<Remembered>>);

#[derive(Debug, Default)]
struct Remembered {
    seconds: HashMap<String, f64>,
    turns: HashMap<String, usize>,
    /// Until when providers have asked to be left alone.
    left_alone: HashMap<String, Instant>,
}

impl Memory {
    /// A provider has begun to answer after so long.
    pub(super) fn took(&self, provider: &str, time: Duration) {
        let (mut remembered, time) = (self.lock(), time.as_secs_f64());
        let known = remembered.seconds.entry(provider.to_owned()).or_insert(time);
        *known += NEWEST * (time - *known);
        remembered.left_alone.remove(provider);
    }

    /// A provider asks to be left alone for so long, by whichever call.
    pub(super) fn leave_alone(&self, provider: &str, time: Duration) {
        let (mut remembered, now) = (self.lock(), Instant::now());
        let known = &mut remembered.left_alone;
        known.retain(|_, until| *until > now);
        if known.contains_key(provider) || known.len() < MOST_LEFT_ALONE {
            known.insert(provider.to_owned(), now + time.min(LONGEST_LEFT_ALONE));
        }
    }

    /// Whether a provider is to be left alone now.
    pub(super) fn leaves_alone(&self, provider: &str) -> bool {
        self.lock().left_alone.get(provider).is_some_and(|until| *until > Instant::now())
    }

    /// The ids of providers in the order in which they are asked.
    pub(super) fn order(
        &self,
        mut ids: Vec<String>,
        strategy: RoutingStrategy,
        router: &str,
        price: impl Fn(&str) -> Option<u128>,
    ) -> Vec<String> {
        match strategy {
            _ if ids.len() < 2 => {}
            RoutingStrategy::Unspecified | RoutingStrategy::Ordered => {}
            RoutingStrategy::RoundRobin => {
                let mut remembered = self.lock();
                let turn = remembered.turns.entry(router.to_owned()).or_default();
                let first = *turn % ids.len();
                *turn = turn.wrapping_add(1);
                ids.rotate_left(first);
            }
            RoutingStrategy::Random => {
                let first = rand::random_range(0..ids.len());
                if let Some(first) = ids.get_mut(..=first) {
                    first.rotate_right(1);
                }
            }
            RoutingStrategy::LowestLatency => {
                let remembered = self.lock();
                // Who has not been asked yet is asked once.
                let seconds = |id: &String| remembered.seconds.get(id).copied().unwrap_or_default();
                ids.sort_by(|one, other| seconds(one).total_cmp(&seconds(other)));
            }
            // Unknown prices come last.
            RoutingStrategy::LowestPrice => ids.sort_by_key(|id| price(id).unwrap_or(u128::MAX)),
        }
        // Who has asked an earlier call to be left alone comes after all others: nobody else may answer.
        ids.sort_by_key(|id| self.leaves_alone(id));
        ids
    }

    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a model of a provider costs in and out together, in 10^-12 of the price's unit; `None` where that is not known.
pub(super) fn price(snapshot: &Snapshot, provider: &Provider, model: &str) -> Option<u128> {
    let found = model::known(snapshot, provider, model)?;
    let prices = found.spec().prices.as_ref()?;
    decimal(&prices.input)?.checked_add(decimal(&prices.output)?)
}

/// A decimal number that is not negative, in 10^-12.
fn decimal(text: &str) -> Option<u128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let fraction: String = fraction.chars().chain(std::iter::repeat('0')).take(PLACES).collect();
    format!("{whole}{fraction}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> Vec<String> {
        ["a", "b", "c"].map(str::to_owned).to_vec()
    }

    fn first(memory: &Memory, strategy: RoutingStrategy) -> String {
        let price =
            |id: &str| [("b", 3), ("c", 2)].iter().find(|(known, _)| *known == id).map(|(_, price)| *price);
        let order = memory.order(ids(), strategy, "default", price);
        let mut sorted = order.clone();
        sorted.sort();
        assert_eq!(sorted, ids(), "everybody is there once");
        order[0].clone()
    }

    #[test]
    fn each_strategy_has_its_first() {
        let memory = Memory::default();
        assert_eq!(first(&memory, RoutingStrategy::Ordered), "a");
        let turns: Vec<_> = (0..4).map(|_| first(&memory, RoutingStrategy::RoundRobin)).collect();
        assert_eq!(turns, ["a", "b", "c", "a"]);
        assert_eq!(first(&memory, RoutingStrategy::LowestPrice), "c");
        for (id, millis) in [("a", 300), ("b", 100), ("c", 200)] {
            memory.took(id, Duration::from_millis(millis));
        }
        assert_eq!(first(&memory, RoutingStrategy::LowestLatency), "b");
        (0..20).for_each(|_| memory.took("b", Duration::from_secs(1)));
        assert_eq!(first(&memory, RoutingStrategy::LowestLatency), "c");
        assert!((0..100).map(|_| first(&memory, RoutingStrategy::Random)).any(|id| id == "c"));
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_to_be_left_alone_comes_last_until_then() {
        let memory = Memory::default();
        memory.leave_alone("a", Duration::from_secs(5));
        assert_eq!(first(&memory, RoutingStrategy::Ordered), "b");
        memory.leave_alone("b", Duration::MAX);
        memory.leave_alone("c", Duration::from_secs(60));
        assert_eq!(first(&memory, RoutingStrategy::Ordered), "a", "somebody is asked");
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(memory.order(ids(), RoutingStrategy::Ordered, "default", |_| None), ["a", "c", "b"]);
        memory.took("b", Duration::ZERO);
        assert_eq!(memory.order(ids(), RoutingStrategy::Ordered, "default", |_| None), ids());
        memory.leave_alone("b", Duration::MAX);
        tokio::time::advance(LONGEST_LEFT_ALONE).await;
        assert_eq!(memory.order(ids(), RoutingStrategy::Ordered, "default", |_| None), ids());
        (0..2 * MOST_LEFT_ALONE).for_each(|n| memory.leave_alone(&n.to_string(), LONGEST_LEFT_ALONE));
        assert_eq!(memory.lock().left_alone.len(), MOST_LEFT_ALONE);
    }

    #[test]
    fn prices_are_exact() {
        assert_eq!(decimal("0.15"), Some(150_000_000_000));
        assert_eq!(decimal("3"), Some(3_000_000_000_000));
        assert!(["", ".5", "-1", "1e3", "x"].iter().all(|text| decimal(text).is_none()));
    }
}
