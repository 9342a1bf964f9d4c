//! What the edge adds: the times which, drawn together with the way and the work
//! of the stores, come out as the latencies that were measured.
//!
//! Quantiles cannot be subtracted from one another, because long ways and long
//! work rarely meet in one request. So the sum is simulated, as the replay does
//! it, and the part that is sought is moved until the sum is right. Knows the
//! model's parts; measures nothing.

use crate::dice::Dice;
use crate::model::{Store, Times, Way};

/// Equal steps from the shortest to the longest.
const STEPS: usize = 40;
/// Where the last step ends: the longest of some hundred says nothing, while a
/// line to there meets p99 where it was measured.
const LAST_MEASURED: f64 = 0.99;
const DRAWS: usize = 20_000;
const ROUNDS: usize = 24;
const SEED: u64 = 41;

/// Latencies in µs, from the shortest on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Measured(Vec<u64>);

impl Extend<u64> for Measured {
    fn extend<T: IntoIterator<Item = u64>>(&mut self, us: T) {
        self.0.extend(us);
        self.0.sort_unstable();
    }
}

impl FromIterator<u64> for Measured {
    fn from_iter<T: IntoIterator<Item = u64>>(us: T) -> Self {
        let mut measured = Self::default();
        measured.extend(us);
        measured
    }
}

impl Measured {
    pub fn requests(&self) -> u64 {
        self.0.len() as u64
    }

    /// Between the two that are nearest on a straight line; 0 where there are none.
    pub fn at(&self, quantile: f64) -> u64 {
        let place = quantile.clamp(0.0, 1.0) * self.0.len().saturating_sub(1) as f64;
        let (before, part) = (place.floor(), place.fract());
        let at = |index: f64| self.0.get(index as usize).copied().unwrap_or_default();
        let (from, to) = (at(before), at(place.ceil()));
        from + ((to - from) as f64 * part).round() as u64
    }

    /// For [`Times::Quantiles`].
    pub fn quantiles(&self) -> Vec<u64> {
        let step = |step: usize| step as f64 / STEPS as f64;
        let mut quantiles: Vec<u64> = (0..STEPS).map(|place| self.at(step(place))).collect();
        let from = self.at(step(STEPS - 1));
        let to = self.at(LAST_MEASURED);
        let part = (LAST_MEASURED - step(STEPS - 1)) / (1.0 - step(STEPS - 1));
        quantiles.push(from + ((to - from) as f64 / part).round() as u64);
        quantiles
    }

    /// What is as short as the shorter of both, at each step.
    pub fn shorter(&self, other: &Self) -> Times {
        let both = self.quantiles().into_iter().zip(other.quantiles());
        Times::Quantiles(both.map(|(one, other)| one.min(other)).collect())
    }
}

/// What a request asks of the stores, with a connection of its own to each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flights {
    None,
    Valkey,
    /// Valkey, which has no copy, and then PostgreSQL.
    Both,
}

/// Why a request waits.
#[derive(Debug, Clone, Copy)]
pub struct Wait<'a> {
    pub way: Way,
    pub valkey: &'a Store,
    pub postgres: &'a Store,
}

impl Wait<'_> {
    pub fn draw(&self, flights: Flights, dice: &mut Dice) -> u64 {
        match flights {
            Flights::None => 0,
            Flights::Valkey => self.valkey(dice),
            Flights::Both => self.valkey(dice) + self.postgres(dice),
        }
    }

    /// Log-in and commands leave together.
    fn valkey(&self, dice: &mut Dice) -> u64 {
        let trips = self.valkey.connect_round_trips + 1;
        round_trips(self.way, trips, dice) + self.valkey.service_us.draw(dice)
    }

    /// The statement leaves with the last message of the log-in, so its work is
    /// part of that.
    fn postgres(&self, dice: &mut Dice) -> u64 {
        let Store {
            connect_round_trips,
            log_in_round_trips,
            log_in_us,
            ..
        } = self.postgres;
        let trips = connect_round_trips + 1 + log_in_round_trips;
        round_trips(self.way, trips, dice) + log_in_us.draw(dice)
    }
}

pub fn round_trips(way: Way, count: u32, dice: &mut Dice) -> u64 {
    (0..2 * count).map(|_| way.draw(dice)).sum()
}

/// Quantiles of what has to be added to the others, which are drawn, so that the
/// sum is what was measured; and what the sum is like.
pub fn added(measured: &Measured, mut others: impl FnMut(&mut Dice) -> u64) -> (Times, Measured) {
    let mut dice = Dice::seeded(SEED);
    let others: Vec<u64> = (0..DRAWS).map(|_| others(&mut dice)).collect();
    let goal = measured.quantiles();
    let others_p50 = others.iter().copied().collect::<Measured>().at(0.5);
    let mut sought: Vec<f64> = goal
        .iter()
        .map(|us| *us as f64 - others_p50 as f64)
        .collect();
    rise(&mut sought);
    let sum = |sought: &[f64]| -> Measured {
        let added = times(sought);
        // The same draws each round, so that only what is sought moves the sum.
        let mut dice = Dice::seeded(SEED + 1);
        let draw = |other: &u64| other + added.draw(&mut dice);
        others.iter().map(draw).collect()
    };
    for _ in 0..ROUNDS {
        let reached = sum(&sought).quantiles();
        for ((sought, goal), reached) in sought.iter_mut().zip(&goal).zip(reached) {
            *sought += (*goal as f64 - reached as f64) / 2.0;
        }
        rise(&mut sought);
    }
    (times(&sought), sum(&sought))
}

fn times(us: &[f64]) -> Times {
    Times::Quantiles(us.iter().map(|us| us.round() as u64).collect())
}

/// Makes the nearest numbers of them that are not negative and never go down:
/// neighbours that do become their mean (pool adjacent violators).
fn rise(us: &mut [f64]) {
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for next in us.iter() {
        let mut pool = (*next, 1);
        while let Some((mean, count)) = pools.pop_if(|(mean, _)| *mean > pool.0) {
            let all = count + pool.1;
            pool = (
                (mean * count as f64 + pool.0 * pool.1 as f64) / all as f64,
                all,
            );
        }
        pools.push(pool);
    }
    let risen = pools
        .into_iter()
        .flat_map(|(mean, count)| std::iter::repeat_n(mean.max(0.0), count));
    for (us, risen) in us.iter_mut().zip(risen) {
        *us = risen;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(seed: u64, mut draw: impl FnMut(&mut Dice) -> u64) -> Measured {
        let mut dice = Dice::seeded(seed);
        (0..2_000).map(|_| draw(&mut dice)).collect()
    }

    #[test]
    fn quantiles_meet_the_p99_and_not_the_longest() {
        let mut us: Vec<u64> = (1..1_000).collect();
        us.push(1_000_000);
        let measured: Measured = us.into_iter().collect();
        let quantiles = measured.quantiles();
        assert_eq!(quantiles.len(), STEPS + 1);
        assert!(quantiles.is_sorted());
        assert!(quantiles[STEPS].abs_diff(1_000) < 5, "{}", quantiles[STEPS]);
        assert!(quantiles[STEPS / 2].abs_diff(500) < 3);
        assert_eq!(Measured::default().at(0.5), 0);
    }

    #[test]
    fn what_was_added_is_found_again_under_the_way_and_the_work() {
        let edge = Times::Quantiles(vec![200, 300, 500, 2_000]);
        let floor = Times::Quantiles(vec![100, 150, 400]);
        let valkey = Store {
            service_us: Times::Quantiles(vec![20, 40, 300]),
            connect_round_trips: 1,
            ..Store::default()
        };
        let wait = Wait {
            way: Way::of(5_000, 400),
            valkey: &valkey,
            postgres: &valkey,
        };
        let measured = drawn(7, |dice| {
            floor.draw(dice) + edge.draw(dice) + wait.draw(Flights::Valkey, dice)
        });
        let (added, simulated) = added(&measured, |dice| {
            floor.draw(dice) + wait.draw(Flights::Valkey, dice)
        });
        for quantile in [0.5, 0.95, 0.99] {
            let (goal, reached) = (measured.at(quantile), simulated.at(quantile));
            assert!(
                goal.abs_diff(reached) < goal / 100,
                "{quantile}: {goal} {reached}"
            );
        }
        let added = drawn(9, |dice| added.draw(dice));
        assert!(added.at(0.5).abs_diff(400) < 100, "{}", added.at(0.5));
    }

    #[test]
    fn others_that_vary_more_than_what_was_measured_still_leave_the_middle_right() {
        let measured = drawn(3, |dice| 1_000 + dice.roll() % 100);
        let (added, simulated) = added(&measured, |dice| 500 + dice.roll() % 400);
        let p50 = simulated.at(0.5);
        assert!(p50.abs_diff(1_050) < 25, "{p50} {added:?}");
    }

    #[test]
    fn numbers_that_go_down_become_their_mean() {
        let mut us = [-4.0, 3.0, 1.0, 5.0, 4.0, 3.0, 9.0];
        rise(&mut us);
        assert_eq!(us, [0.0, 2.0, 2.0, 4.0, 4.0, 4.0, 9.0]);
    }

    #[test]
    fn an_edge_that_is_faster_than_its_stores_adds_nothing() {
        let store = Store::default();
        let wait = Wait {
            way: Way::of(5_000, 0),
            valkey: &store,
            postgres: &store,
        };
        let measured = drawn(1, |_| 10);
        let (added, _) = added(&measured, |dice| 5 + wait.draw(Flights::Valkey, dice));
        assert_eq!(added, Times::Quantiles(vec![0; STEPS + 1]));
    }
}
