//! Traffic of a voice shop that nobody recorded: shoppers who log in, ask, look
//! around, think, order, and leave.
//!
//! Seeded: the same bytes on every machine. Knows what shoppers do and what an app
//! asks for then, and what it stores again when it is gone. Knows no tier: what is
//! read is read, whoever has it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Result, ensure};
use indicatif::ProgressBar;

use super::call::taste;
use super::mapped::{self, Meaning, VOICE_QUERY, drawn};
use super::{LONGEST, Request, Traffic, ndjson};
use crate::dice::{Dice, Zipf};
use crate::operation::Operation;
use crate::{steps, trace};

/// The command line of `sim synth`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub shop: Shop,
    /// Give the keys of a recorded trace a meaning instead: cache2k's, headissue's, oracleGeneral, or Twitter's csv
    #[arg(long, value_name = "FILE", conflicts_with_all = ["users", "days", "duration", "requests_per_s", "zipf", "places"])]
    pub trace: Option<PathBuf>,
    /// The format of that trace, where its name does not tell
    #[arg(long, requires = "trace")]
    pub format: Option<trace::Format>,
    /// What a key of that trace stands for
    #[arg(long, requires = "trace", default_value = "thing")]
    pub keys: Meaning,
    /// Where to write; compressed where the name ends in .zst
    #[arg(short, long, value_name = "FILE", default_value = "traffic.ndjson.zst")]
    pub output: PathBuf,
}

/// How much goes on in a shop.
#[derive(Debug, Clone, clap::Args)]
pub struct Shop {
    /// Another seed is another day in the same shop
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many shoppers there are; the sample shop has rows for 50
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub users: u32,
    /// For how long, in whole days from midnight
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=31))]
    pub days: u32,
    /// For how long, as in 2h or 90min: around the busiest hour if less than a day
    #[arg(long, conflicts_with = "days", value_parser = humantime::parse_duration)]
    pub duration: Option<Duration>,
    /// About the mean over the whole time; few shoppers in many windows ask for a little less
    #[arg(long, default_value_t = 5.0)]
    pub requests_per_s: f64,
    /// How uneven popularity is, of shoppers and of product queries: 0 is even
    #[arg(long, default_value_t = 0.9)]
    pub zipf: f64,
    /// Where shoppers live, by weight
    #[arg(long, value_delimiter = ',', default_value = HOMES, value_name = "PLACE=WEIGHT")]
    pub places: Vec<Home>,
}

/// As in the model that a simulation takes by default.
const HOMES: &str = "FRA=4,LHR=3,IAD=2,SIN=1";

/// A place, and its part of the shoppers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    pub place: String,
    pub weight: u32,
}

impl FromStr for Home {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (place, weight) = text.split_once('=').unwrap_or((text, "1"));
        let weight = weight.parse().ok().filter(|_| !place.is_empty());
        let place = place.to_owned();
        weight
            .map(|weight| Self { place, weight })
            .ok_or_else(|| format!("{text:?} is not a place and its weight, such as FRA=4"))
    }
}

/// Makes the traffic, writes it, and says in a sentence what it is.
///
/// # Errors
/// The trace cannot be read, or the traffic not be written.
pub fn run(options: &Options) -> Result<String> {
    let traffic = match &options.trace {
        Some(path) => mapped::with_meaning(&trace::open(path, options.format)?, options.keys),
        None => options.shop.traffic()?,
    };
    ndjson::save(&traffic, &options.output)?;
    Ok(format!(
        "{}{}: {}\n",
        traffic.oddities,
        options.output.display(),
        traffic.summary()
    ))
}

const DAY_MS: u64 = 24 * HOUR_MS;
const HOUR_MS: u64 = 3_600_000;
/// How much goes on in the hours of a day, beside each other: a peak at lunch and
/// a higher one in the evening.
const HOURS: [u32; 24] = [
    30, 18, 12, 9, 8, 10, 18, 34, 52, 64, 72, 82, 88, 78, 66, 62, 66, 76, 92, 108, 112, 98, 72, 48,
];
/// The busiest of them.
const BUSIEST_HOUR: u64 = 20;
/// Before the traffic begins, so that shoppers are there when it does.
const LEAD_MS: u64 = HOUR_MS;
/// Shoppers arrive on such ticks: far more of them than shoppers.
const TICK_MS: u64 = 10;
/// How often what a day's hour says is looked up again.
const CURVE_STEP_MS: u64 = 60_000;
/// Who has just left does not come back at once.
const PAUSE_MS: u64 = HOUR_MS;
/// Where all that are drawn so often are there already, one opens another window.
const DRAWS_MAX: u32 = 8;
/// How many visits are tried to learn how many requests a visit is.
const TRIED_VISITS: u32 = 8_000;

/// The integration guide's.
const SESSION_TTL_MS: u64 = 86_400_000;
const PREFERENCES_TTL_MS: u64 = 3_600_000;
const RECOMMENDATIONS_TTL_MS: u64 = 1_800_000;

/// Of 100 things that a shopper does after thinking.
const MIX: [(u32, Operation); 8] = [
    (56, Operation::VoiceQuery),
    (24, Operation::Products),
    (5, Operation::Profile),
    (4, Operation::StorePreferences),
    (4, Operation::Orders),
    (3, Operation::TouchSession),
    (3, Operation::CreateOrder),
    (1, Operation::CreateReturn),
];
/// One of so many things done is the last of a visit.
const LEAVES_AFTER: u32 = 7;
/// Of 100 visits that end, how many with a log-out.
const LOG_OUTS: u32 = 30;
/// Half of the shoppers think for less, two of three for a fraction or a multiple
/// of it within the spread.
const THINK_MS: f64 = 20_000.0;
const THINK_SPREAD: f64 = 2.7;
/// Nobody is silent for longer and still there.
const THINK_MS_MAX: f64 = 600_000.0;
/// An app reads again, or stores again, so long after it learned that it must.
const REACTS_AFTER_MS: u64 = 400;
/// So many different searches have a rank.
const QUERIES: u32 = 400;
/// A conversation grows by a turn of the shopper and one of the assistant.
const CONTEXT_BYTES: u32 = 200;
const TURN_BYTES: u32 = 240;

impl Shop {
    /// # Errors
    /// Numbers that make no traffic.
    pub fn traffic(&self) -> Result<Traffic> {
        self.check()?;
        let mut making = Making::new(self);
        let per_visit = self.requests_per_visit();
        let bar = steps::bar("Making traffic (s of it)", making.end_ms / 1_000);
        making.run(self.requests_per_s / per_visit, &bar);
        bar.finish_and_clear();
        making
            .traffic
            .requests
            .sort_by_key(|request| request.time_ms);
        ensure!(
            !making.traffic.requests.is_empty(),
            "{} requests/s for so short a time are none: raise --requests-per-s or --duration",
            self.requests_per_s
        );
        Ok(making.traffic)
    }

    fn check(&self) -> Result<()> {
        ensure!(
            self.requests_per_s > 0.0 && self.requests_per_s <= 100_000.0,
            "--requests-per-s is more than 0 and at most 100000, not {}",
            self.requests_per_s
        );
        ensure!(
            self.duration.is_none_or(|duration| duration <= LONGEST),
            "--duration is {} at most, as a replay is",
            humantime::format_duration(LONGEST)
        );
        let requests = self.requests_per_s * (self.duration_ms() / 1_000) as f64;
        ensure!(
            requests <= trace::REQUESTS_MAX as f64,
            "that would be {requests:.0} requests, and {} are the most: make less at a time",
            trace::REQUESTS_MAX
        );
        ensure!(
            (0.0..=10.0).contains(&self.zipf),
            "--zipf is from 0 to 10, not {}",
            self.zipf
        );
        ensure!(
            self.places.iter().any(|home| home.weight > 0),
            "--places names none with a weight above 0: nobody would live anywhere"
        );
        Ok(())
    }

    /// As tried, by so many shoppers who come once.
    fn requests_per_visit(&self) -> f64 {
        let shop = Self {
            users: TRIED_VISITS,
            ..self.clone()
        };
        let mut making = Making::new(&shop);
        making.end_ms = u64::MAX;
        for shopper in 0..TRIED_VISITS {
            making.arrives(LEAD_MS, shopper);
        }
        making.until(u64::MAX);
        making.traffic.requests.len() as f64 / f64::from(TRIED_VISITS)
    }

    fn duration_ms(&self) -> u64 {
        self.duration.map_or(u64::from(self.days) * DAY_MS, |time| {
            time.as_millis().try_into().unwrap_or(u64::MAX / 4)
        })
    }
}

/// What lasts from one visit to the next.
#[derive(Debug, Clone, Default)]
struct Shopper {
    /// Its id, and until when Valkey has it.
    session: Option<(u32, u64)>,
    preferences_until_ms: u64,
    recommendations_until_ms: u64,
    turns: u32,
    /// In how many windows.
    windows: u32,
    left_at_ms: Option<u64>,
}

/// Somebody does something next: when, in which order, who, and whether to begin with.
type Next = Reverse<(u64, u64, u32, bool)>;

/// Time runs from 0, which is [`LEAD_MS`] before the traffic begins.
struct Making<'a> {
    shop: &'a Shop,
    dice: Dice,
    shoppers: Vec<Shopper>,
    popularity: Zipf,
    queries: Zipf,
    next: BinaryHeap<Next>,
    /// Makes those of one moment follow one another as they came about.
    order: u64,
    sessions: u32,
    flows: u32,
    /// Of the day, when time is 0.
    midnight_offset_ms: u64,
    end_ms: u64,
    traffic: Traffic,
}

impl<'a> Making<'a> {
    fn new(shop: &'a Shop) -> Self {
        let duration_ms = shop.duration_ms();
        let begins_ms = if duration_ms < DAY_MS {
            BUSIEST_HOUR * HOUR_MS + DAY_MS - duration_ms / 2
        } else {
            DAY_MS
        };
        Self {
            shop,
            dice: Dice::seeded(shop.seed),
            shoppers: vec![Shopper::default(); shop.users as usize],
            popularity: Zipf::new(shop.users, shop.zipf),
            queries: Zipf::new(QUERIES, shop.zipf),
            next: BinaryHeap::new(),
            order: 0,
            sessions: 0,
            flows: 0,
            midnight_offset_ms: (begins_ms - LEAD_MS) % DAY_MS,
            end_ms: LEAD_MS.saturating_add(duration_ms),
            traffic: Traffic::default(),
        }
    }

    fn run(&mut self, visits_per_s: f64, bar: &ProgressBar) {
        const CERTAIN: f64 = (1_u64 << 32) as f64;
        let mean = self.mean_of_curve();
        let mut chance = 0.0;
        for tick in 0..self.end_ms / TICK_MS {
            let now_ms = tick * TICK_MS;
            if now_ms.is_multiple_of(CURVE_STEP_MS) {
                let visits_per_tick = visits_per_s * TICK_MS as f64 / 1_000.0;
                chance = visits_per_tick * self.curve(now_ms) / mean;
                bar.set_position(now_ms / 1_000);
            }
            self.until(now_ms);
            let drawn = (self.dice.roll() >> 32) as f64 / CERTAIN;
            // More than one where a tick is long beside the time between two.
            let arrive = chance as u64 + u64::from(drawn < chance % 1.0);
            for _ in 0..arrive {
                let shopper = self.somebody(now_ms);
                self.arrives(now_ms, shopper);
            }
        }
        self.until(self.end_ms);
    }

    /// How much goes on at this time.
    fn curve(&self, now_ms: u64) -> f64 {
        let of_day_ms = (self.midnight_offset_ms + now_ms) % DAY_MS;
        let hour = |hour: u64| {
            let index = (hour % 24) as usize;
            f64::from(HOURS.get(index).copied().unwrap_or_default())
        };
        let (from, part_ms) = (of_day_ms / HOUR_MS, of_day_ms % HOUR_MS);
        let rise = hour(from + 1) - hour(from);
        hour(from) + rise * part_ms as f64 / HOUR_MS as f64
    }

    /// Over the time of the traffic.
    fn mean_of_curve(&self) -> f64 {
        let steps = ((self.end_ms - LEAD_MS) / CURVE_STEP_MS).max(1);
        let sum: f64 = (0..steps)
            .map(|step| self.curve(LEAD_MS + step * CURVE_STEP_MS))
            .sum();
        sum / steps as f64
    }

    /// Who comes now: by popularity, of those who are not there.
    fn somebody(&mut self, now_ms: u64) -> u32 {
        let mut shopper = 0;
        for _ in 0..DRAWS_MAX {
            shopper = self.popularity.draw(&mut self.dice);
            let is_away = self.shoppers.get(shopper as usize).is_some_and(|known| {
                let left = known.left_at_ms.map(|left_ms| left_ms + PAUSE_MS);
                known.windows == 0 && left.is_none_or(|back_ms| back_ms <= now_ms)
            });
            if is_away {
                break;
            }
        }
        shopper
    }

    fn arrives(&mut self, now_ms: u64, shopper: u32) {
        if let Some(known) = self.shoppers.get_mut(shopper as usize) {
            known.windows += 1;
        }
        self.then(now_ms, shopper, true);
    }

    fn then(&mut self, time_ms: u64, shopper: u32, begins: bool) {
        self.order += 1;
        self.next
            .push(Reverse((time_ms, self.order, shopper, begins)));
    }

    /// All that is done until then.
    fn until(&mut self, now_ms: u64) {
        while let Some(Reverse((time_ms, ..))) = self.next.peek()
            && *time_ms <= now_ms
            && let Some(Reverse((time_ms, _, shopper, begins))) = self.next.pop()
        {
            self.does(time_ms, shopper, begins);
        }
    }

    fn does(&mut self, now_ms: u64, number: u32, begins: bool) {
        let mut shopper = self
            .shoppers
            .get_mut(number as usize)
            .map(std::mem::take)
            .unwrap_or_default();
        if begins {
            self.logs_in(now_ms, number, &mut shopper);
        } else {
            self.acts(now_ms, number, &mut shopper);
        }
        if self.dice.below(LEAVES_AFTER) == 0 {
            if self.dice.below(100) < LOG_OUTS
                && let Some((session, _)) = shopper.session.take()
            {
                let key = session_id(session);
                self.asks(
                    now_ms + REACTS_AFTER_MS,
                    number,
                    Operation::DeleteSession,
                    &key,
                );
            }
            shopper.windows = shopper.windows.saturating_sub(1);
            shopper.left_at_ms = Some(now_ms);
        } else {
            let think_ms = self.dice.log_normal(THINK_MS, THINK_SPREAD);
            // At least as long as what follows from this one.
            let think_ms = think_ms.clamp(2.0 * REACTS_AFTER_MS as f64, THINK_MS_MAX);
            self.then(now_ms + think_ms as u64, number, false);
        }
        if let Some(known) = self.shoppers.get_mut(number as usize) {
            *known = shopper;
        }
    }

    fn logs_in(&mut self, now_ms: u64, number: u32, shopper: &mut Shopper) {
        let user = user_id(number);
        match shopper.session {
            Some((session, until_ms)) if now_ms < until_ms => {
                self.asks(now_ms, number, Operation::Session, &session_id(session));
            }
            _ => {
                shopper.turns = 0;
                self.sessions += 1;
                shopper.session = Some((self.sessions, now_ms + SESSION_TTL_MS));
                let session = session_id(self.sessions);
                self.asks(now_ms, number, Operation::StoreSession, &session);
            }
        }
        self.asks(now_ms, number, Operation::Profile, &user);
        self.asks(now_ms, number, Operation::Preferences, &user);
        self.prefers(now_ms, number, shopper);
    }

    /// An app that finds no preferences makes them of the profile.
    fn prefers(&mut self, now_ms: u64, number: u32, shopper: &mut Shopper) {
        if shopper.preferences_until_ms <= now_ms {
            let (then_ms, user) = (now_ms + REACTS_AFTER_MS, user_id(number));
            self.asks(then_ms, number, Operation::Profile, &user);
            self.asks(then_ms, number, Operation::StorePreferences, &user);
            shopper.preferences_until_ms = then_ms + PREFERENCES_TTL_MS;
        }
    }

    fn acts(&mut self, now_ms: u64, number: u32, shopper: &mut Shopper) {
        let user = user_id(number);
        // Who has logged out in another window logs in again.
        let Some((session, until_ms)) = shopper.session.filter(|(_, until)| now_ms < *until) else {
            return self.logs_in(now_ms, number, shopper);
        };
        let session_key = session_id(session);
        let then_ms = now_ms + REACTS_AFTER_MS;
        match drawn(&MIX, &mut self.dice) {
            Operation::VoiceQuery => self.speaks(now_ms, number, &session_key, shopper),
            Operation::Products => {
                self.asks(now_ms, number, Operation::Session, &session_key);
                let query = self.query();
                self.asks(now_ms, number, Operation::Products, &query);
            }
            Operation::StorePreferences => {
                self.asks(now_ms, number, Operation::StorePreferences, &user);
                self.asks(now_ms, number, Operation::SaveProfile, &user);
                self.asks(then_ms, number, Operation::Preferences, &user);
                self.asks(then_ms, number, Operation::Profile, &user);
                shopper.preferences_until_ms = now_ms + PREFERENCES_TTL_MS;
            }
            Operation::CreateOrder => {
                self.asks(now_ms, number, Operation::CreateOrder, &user);
                self.asks(then_ms, number, Operation::Orders, &user);
            }
            Operation::CreateReturn => {
                self.asks(now_ms, number, Operation::Orders, &user);
                self.asks(then_ms, number, Operation::CreateReturn, &user);
                self.asks(then_ms + REACTS_AFTER_MS, number, Operation::Returns, &user);
            }
            Operation::TouchSession => {
                self.asks(now_ms, number, Operation::TouchSession, &session_key);
                shopper.session = Some((session, until_ms.max(now_ms + SESSION_TTL_MS)));
            }
            operation => {
                self.asks(now_ms, number, operation, &user);
            }
        }
    }

    /// The guide's flow; what is gone is made and stored again after it.
    fn speaks(&mut self, now_ms: u64, number: u32, session: &str, shopper: &mut Shopper) {
        let user = user_id(number);
        self.flows += 1;
        for operation in VOICE_QUERY {
            let key = match operation {
                Operation::Session => session.to_owned(),
                Operation::Products => self.query(),
                _ => user.clone(),
            };
            let turns = shopper.turns + u32::from(operation == Operation::StoreContext);
            let size_bytes = match operation {
                Operation::Conversation | Operation::StoreContext => {
                    CONTEXT_BYTES + TURN_BYTES * turns
                }
                _ => 0,
            };
            let flow = self.flows;
            if let Some(request) = self.asks(now_ms, number, operation, &key) {
                request.size_bytes = size_bytes;
                request.flow = flow;
            }
        }
        shopper.turns += 1;
        if shopper.recommendations_until_ms <= now_ms {
            let then_ms = now_ms + REACTS_AFTER_MS;
            self.asks(then_ms, number, Operation::StoreRecommendations, &user);
            shopper.recommendations_until_ms = then_ms + RECOMMENDATIONS_TTL_MS;
        }
        self.prefers(now_ms, number, shopper);
    }

    fn query(&mut self) -> String {
        taste(self.queries.draw(&mut self.dice).into())
    }

    /// None: not within the time of the traffic.
    fn asks(
        &mut self,
        time_ms: u64,
        shopper: u32,
        operation: Operation,
        key: &str,
    ) -> Option<&mut Request> {
        if !(LEAD_MS..self.end_ms).contains(&time_ms) {
            return None;
        }
        let place = self.home(shopper);
        let traffic = &mut self.traffic;
        let request = Request {
            client: traffic.clients.number(&user_id(shopper)),
            place: traffic.places.number(place),
            ..Request::new(time_ms - LEAD_MS, operation, traffic.keys.number(key))
        };
        // They are put in the order of their times when all are there.
        traffic.requests.push(request);
        traffic.requests.last_mut()
    }

    /// Where a shopper lives, always the same.
    fn home(&self, shopper: u32) -> &'a str {
        let homes = &self.shop.places;
        let all = homes.iter().map(|home| home.weight).sum();
        let mut drawn = Dice::seeded(u64::from(shopper)).below(all);
        for home in homes {
            if drawn < home.weight {
                return &home.place;
            }
            drawn -= home.weight;
        }
        ""
    }
}

/// As the sample shop has them, as far as it has.
fn user_id(shopper: u32) -> String {
    format!("user-{shopper:03}")
}

fn session_id(number: u32) -> String {
    format!("session-{number}")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::model::Model;
    use crate::operation::Effect;

    fn shop() -> Shop {
        Shop {
            seed: 7,
            users: 500,
            days: 1,
            duration: None,
            requests_per_s: 1.0,
            zipf: 0.9,
            places: vec!["FRA=3".parse().unwrap(), "SIN=1".parse().unwrap()],
        }
    }

    fn count(traffic: &Traffic, operation: Operation) -> usize {
        let all = traffic.requests.iter();
        all.filter(|request| request.operation == operation).count()
    }

    #[test]
    fn a_seed_makes_the_same_bytes_and_another_seed_others() -> Result<()> {
        let text = |seed| -> Result<Vec<u8>> {
            let mut text = Vec::new();
            let duration = Some(Duration::from_secs(3_600));
            let shop = Shop {
                seed,
                duration,
                ..shop()
            };
            ndjson::write(&shop.traffic()?, &mut text)?;
            Ok(text)
        };
        let first = text(1)?;
        assert_eq!(first, text(1)?);
        assert_ne!(first, text(2)?);
        // Whoever changes these bytes changes what was measured with them.
        let sum = sha1_smol::Sha1::from(&first).digest().to_string();
        assert_eq!(sum, "29cfd56b24c38a5a4c89b61b56ce1f8d5fb8a039");
        Ok(())
    }

    #[test]
    fn the_mean_is_as_asked_and_the_evening_busier_than_the_night() -> Result<()> {
        let traffic = shop().traffic()?;
        let all = traffic.requests.len();
        assert!((77_000..96_000).contains(&all), "{all} of 86400");
        let hour = |hour: u64| {
            let hours = traffic.requests.iter();
            hours
                .filter(|request| request.time_ms / HOUR_MS == hour)
                .count()
        };
        assert!(hour(20) > 8 * hour(4), "{} {}", hour(20), hour(4));
        assert!(hour(12) > hour(15) && hour(20) > hour(12));
        assert!(traffic.requests.is_sorted_by_key(|request| request.time_ms));

        let hours = Shop {
            duration: Some(Duration::from_secs(2 * 3_600)),
            ..shop()
        };
        let all = hours.traffic()?.requests.len();
        assert!((6_000..8_500).contains(&all), "{all} of 7200");
        Ok(())
    }

    #[test]
    fn shoppers_do_what_shoppers_do() -> Result<()> {
        let traffic = shop().traffic()?;
        for operation in Operation::ALL {
            let expected = !matches!(
                operation,
                Operation::VoiceQuery
                    | Operation::Floor
                    | Operation::Generic
                    | Operation::StoreGeneric
                    | Operation::DeleteGeneric
            );
            assert_eq!(count(&traffic, operation) > 0, expected, "{operation:?}");
        }
        let writes = traffic.requests.iter();
        let writes = writes.filter(|request| request.operation.effect() != Effect::Read);
        let share = writes.count() as f64 / traffic.requests.len() as f64;
        assert!((0.1..0.35).contains(&share), "{share}");
        Ok(())
    }

    #[test]
    fn a_flow_is_the_guides_of_one_shopper_at_one_time() -> Result<()> {
        let traffic = shop().traffic()?;
        let flows = traffic
            .requests
            .chunk_by(|one, next| one.flow == next.flow)
            .filter(|flow| flow.first().is_some_and(|first| first.flow > 0));
        let mut seen = 0;
        for flow in flows {
            let operations: Vec<_> = flow.iter().map(|request| request.operation).collect();
            assert_eq!(operations, VOICE_QUERY);
            assert!(flow.iter().all(|one| one.time_ms == flow[0].time_ms));
            assert!(flow.iter().all(|one| one.client == flow[0].client));
            seen += 1;
        }
        assert!(seen > 1_000);
        Ok(())
    }

    #[test]
    fn what_is_gone_after_its_ttl_is_stored_again_and_not_before() -> Result<()> {
        let traffic = shop().traffic()?;
        let (mut stored, mut missed) = (HashMap::new(), HashMap::new());
        for request in &traffic.requests {
            let (key, now_ms) = (request.key, request.time_ms);
            let age_ms = stored.get(&key).map(|at_ms| now_ms - at_ms);
            match request.operation {
                Operation::StoreRecommendations => {
                    assert!(age_ms.is_none_or(|ms| ms >= RECOMMENDATIONS_TTL_MS));
                    stored.insert(key, now_ms);
                    missed.remove(&key);
                }
                Operation::Recommendations
                    if age_ms.is_some_and(|ms| ms >= RECOMMENDATIONS_TTL_MS) =>
                {
                    missed.entry(key).or_insert(now_ms);
                }
                _ => {}
            }
        }
        assert!(stored.len() > 100);
        // Only the end of the traffic may come in between.
        assert!(
            missed
                .values()
                .all(|at_ms| at_ms + REACTS_AFTER_MS >= DAY_MS)
        );
        Ok(())
    }

    #[test]
    fn few_are_popular_and_homes_are_by_weight() -> Result<()> {
        let traffic = shop().traffic()?;
        let mut asked: HashMap<&str, u32> = HashMap::new();
        let products = traffic.requests.iter();
        for request in products.filter(|request| request.operation == Operation::Products) {
            *asked.entry(traffic.key(request)).or_default() += 1;
        }
        let mut counts: Vec<u32> = asked.into_values().collect();
        counts.sort_unstable();
        let top: u32 = counts.iter().rev().take(counts.len() / 5).sum();
        assert!(top * 2 > counts.iter().sum::<u32>(), "{counts:?}");

        let mut homes: HashMap<u32, u32> = HashMap::new();
        for request in &traffic.requests {
            let home = homes.entry(request.client).or_insert(request.place);
            assert_eq!(*home, request.place);
        }
        let in_singapore = homes
            .values()
            .filter(|place| traffic.places.name(**place) == "SIN")
            .count();
        let share = in_singapore as f64 / homes.len() as f64;
        assert!((0.17..0.33).contains(&share), "{share}");
        Ok(())
    }

    #[test]
    fn homes_are_where_the_model_has_places() -> Result<(), String> {
        let homes: Vec<Home> = HOMES.split(',').map(str::parse).collect::<Result<_, _>>()?;
        let places = Model::default().places.into_iter();
        let expected: Vec<Home> = places
            .map(|place| Home {
                place: place.name,
                weight: place.weight,
            })
            .collect();
        assert_eq!(homes, expected);
        Ok(())
    }

    #[test]
    fn numbers_that_make_no_traffic_are_refused_in_a_sentence() {
        for (shop, word) in [
            (
                Shop {
                    requests_per_s: 0.0,
                    ..shop()
                },
                "--requests-per-s",
            ),
            (
                Shop {
                    zipf: -1.0,
                    ..shop()
                },
                "--zipf",
            ),
            (
                Shop {
                    places: vec!["FRA=0".parse().unwrap()],
                    ..shop()
                },
                "--places",
            ),
        ] {
            let error = shop.traffic().unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        assert!("=3".parse::<Home>().is_err() && "FRA=x".parse::<Home>().is_err());
    }
}
