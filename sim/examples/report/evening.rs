//! An invented replay: an hour of a shop with a rush in the middle, a minute in
//! which Valkey was gone, targets that are missed, and answers that lay behind.
//!
//! Always the same. The numbers look like those of a replay and come from none.

use anyhow::Result;
use hdrhistogram::Histogram;
use sim::dice::Dice;
use sim::operation::{Effect, Operation};
use sim::report::{
    Bound, Bucket, Limit, PlaceRow, Report, Row, Staleness, StoreLoad, Timeline, WhatIf,
};
use sim::tally::Tallies;

const BUCKETS: u32 = 120;
const BUCKET_MS: u64 = 30_000;
/// When Valkey was gone.
const OUTAGE: std::ops::Range<u32> = 82..84;
/// After so many buckets L1 has seen what it will see again.
const WARM: u32 = 14;

pub fn report() -> Result<Report> {
    let mut dice = Dice::seeded(7);
    let (tallies, timeline) = replay(&mut dice)?;
    let rows = Row::all_of(&tallies);
    let stores = vec![
        store("Valkey", "commands", &timeline, |bucket| {
            bucket.valkey_commands
        }),
        store("PostgreSQL", "statements", &timeline, |bucket| {
            bucket.postgres_statements
        }),
    ];
    Ok(Report {
        conditions: words(&[
            ("trace", "an invented evening, 19:00 to 20:00"),
            ("seed", "7"),
            ("isolates", "12 in 3 places"),
            ("network", "9 ms from Frankfurt, 81 ms from Singapore (median, one way)"),
            ("L1", "32 MiB, at most 5 s old"),
            ("faults", "Valkey cut off for a minute after 41 min"),
        ]),
        rows,
        places: places(&tallies),
        timeline,
        stores,
        staleness: staleness(&mut dice)?,
        bounds: bounds(),
        limits: vec![Limit {
            name: "memory of an isolate".to_owned(),
            unit: "bytes".to_owned(),
            most: 131 << 20,
            allowed: 128 << 20,
            over: 2,
        }],
        what_if: what_if(),
        notes: vec![
            "The order and the popularity of keys are recorded, the kinds of requests are synthetic.".to_owned(),
            "Times are virtual: a run takes as long as its computation, and its latencies are those of the network model.".to_owned(),
        ],
    })
}

fn words(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// Of 1000 requests so many, of 100 answers so many from L1 and L2, and how many
/// µs they take from L1, L2 and L3.
type Habit = (Operation, u32, [u32; 2], [u64; 3]);

const HABITS: [Habit; 9] = [
    (Operation::Session, 250, [46, 54], [180, 9_100, 0]),
    (Operation::Preferences, 170, [97, 3], [150, 8_900, 0]),
    (Operation::Recommendations, 140, [98, 2], [160, 9_000, 0]),
    (Operation::Products, 220, [61, 24], [240, 9_400, 31_000]),
    (Operation::Profile, 72, [44, 35], [200, 9_200, 24_000]),
    (Operation::Orders, 21, [21, 18], [210, 9_300, 33_000]),
    (Operation::StoreContext, 110, [0, 100], [0, 9_800, 0]),
    (Operation::CreateOrder, 5, [0, 0], [0, 0, 52_000]),
    (Operation::Floor, 12, [100, 0], [90, 0, 0]),
];

fn replay(dice: &mut Dice) -> Result<(Tallies, Timeline)> {
    let mut tallies = Tallies::default();
    let mut buckets = Vec::new();
    for number in 0..BUCKETS {
        let mut bucket = Bucket::default();
        // Louder to the middle of the hour.
        let requests = 320 + 5 * number.min(BUCKETS - number) + dice.below(60);
        for _ in 0..requests {
            request(dice, number, &mut bucket, &mut tallies)?;
        }
        buckets.push(bucket);
    }
    let timeline = Timeline {
        bucket_ms: BUCKET_MS,
        buckets,
    };
    Ok((tallies, timeline))
}

/// Such that they show what a place is told of.
fn places(tallies: &Tallies) -> Vec<PlaceRow> {
    let of = |operation| tallies.get(operation);
    let both = of(Operation::Products).zip(of(Operation::VoiceQuery));
    let row = |place| both.map(|(all, voice)| PlaceRow::of(place, all, voice));
    ["FRA", "LHR", "SIN"].into_iter().filter_map(row).collect()
}

fn request(dice: &mut Dice, number: u32, bucket: &mut Bucket, tallies: &mut Tallies) -> Result<()> {
    let mut drawn = dice.below(1000);
    let habit = HABITS.iter().find(|(_, of_1000, ..)| {
        let is_drawn = drawn < *of_1000;
        drawn = drawn.saturating_sub(*of_1000);
        is_drawn
    });
    let (operation, _, [from_l1, from_l2], [l1_us, l2_us, l3_us]) = *habit.unwrap_or(&HABITS[0]);
    let tally = tallies.of(operation)?;
    let is_read = operation.effect() == Effect::Read;
    let has_valkey = !OUTAGE.contains(&number);
    let warmth = 30 + 70 * number.min(WARM) / WARM;
    let place = dice.below(100);
    bucket.requests += 1;
    let us = if place < from_l1 * warmth / 100 {
        tally.l1 += u64::from(is_read);
        bucket.l1 += u64::from(is_read);
        l1_us
    } else if has_valkey && (place < from_l1 + from_l2 || l3_us == 0) {
        tally.l2 += u64::from(is_read);
        bucket.l2 += u64::from(is_read);
        bucket.valkey_commands += 2;
        l2_us.max(l1_us)
    } else if l3_us > 0 {
        tally.l3 += u64::from(is_read);
        bucket.l3 += u64::from(is_read);
        bucket.valkey_commands += if has_valkey { 4 } else { 0 };
        bucket.postgres_statements += 1;
        l3_us
    } else {
        tally.errors += 1;
        bucket.errors += 1;
        1_200
    };
    tally.time(varied(dice, us));
    if operation == Operation::StoreContext {
        let flow_us = (0..5).map(|_| varied(dice, 6_500)).sum();
        tallies.of(Operation::VoiceQuery)?.time(flow_us);
    }
    Ok(())
}

/// Mostly near `us`, at times much longer, never much shorter.
fn varied(dice: &mut Dice, us: u64) -> u64 {
    let jitter = us * u64::from(dice.below(60)) / 100;
    let tail = match dice.below(100) {
        0 => us * 3,
        1..5 => us,
        _ => 0,
    };
    us * 4 / 5 + jitter + tail
}

fn store(name: &str, unit: &str, timeline: &Timeline, of: fn(&Bucket) -> u64) -> StoreLoad {
    let total = timeline.buckets.iter().map(of).sum();
    let busiest = timeline
        .buckets
        .iter()
        .zip(0..)
        .max_by_key(|(bucket, _)| of(bucket));
    let (in_bucket, number) = busiest.map_or((0, 0), |(bucket, number)| (of(bucket), number));
    StoreLoad {
        store: name.to_owned(),
        unit: unit.to_owned(),
        total,
        // Requests come in flocks.
        peak_per_s: in_bucket * 2000 / BUCKET_MS,
        peak_at_ms: number * BUCKET_MS + 13_000,
        connections: total / 4,
        connections_at_once_max: in_bucket / 40 + 3,
    }
}

fn staleness(dice: &mut Dice) -> Result<Staleness> {
    let mut behind_ms = Histogram::new_with_bounds(1, 60_000, 3)?;
    for _ in 0..412 {
        behind_ms.saturating_record(u64::from(dice.below(70) * dice.below(70)) + 12);
    }
    Ok(Staleness::of(49_987, &behind_ms))
}

fn bounds() -> Vec<Bound> {
    [
        ("edge L1 (W-TinyLFU)", 0.6525),
        ("LRU", 0.6187),
        ("clairvoyant", 0.7274),
        ("unbounded", 0.7411),
    ]
    .map(|(name, hit_ratio)| Bound {
        name: name.to_owned(),
        hit_ratio,
    })
    .to_vec()
}

fn what_if() -> Vec<WhatIf> {
    let line = |settings: &[(&str, &str)],
                [l1_share, worst, stale_share]: [f64; 3],
                [
        targets_missed,
        voice_p95_us,
        errors,
        postgres,
        valkey,
        stale_max_ms,
    ]: [u64; 6],
                is_on_front| {
        WhatIf {
            settings: words(settings),
            l1_share,
            targets_missed,
            worst,
            voice_p95_us,
            errors,
            postgres_peak_per_s: postgres,
            valkey_peak_per_s: valkey,
            stale_share,
            stale_max_ms,
            is_on_front,
        }
    };
    let age = |ms| ("L1_MAX_AGE_MS", ms);
    let gateway = ("BACKEND", "gateway");
    vec![
        line(
            &[],
            [0.6525, 1.60, 0.0082],
            [3, 50_370, 260, 5, 43, 4_773],
            true,
        ),
        line(
            &[age("1000")],
            [0.4127, 2.31, 0.0019],
            [4, 52_904, 260, 5, 71, 992],
            true,
        ),
        line(
            &[age("0")],
            [0.0, 2.44, 0.0],
            [4, 61_220, 260, 6, 118, 0],
            true,
        ),
        line(
            &[("L1_BYTES", "1048576")],
            [0.5508, 1.92, 0.0083],
            [3, 51_815, 262, 7, 52, 4_780],
            false,
        ),
        line(
            &[gateway],
            [0.6525, 0.91, 0.0084],
            [0, 27_406, 258, 4, 34, 4_801],
            true,
        ),
        line(
            &[gateway, ("COPY_MAX_AGE_MS", "120000")],
            [0.6525, 0.88, 0.0311],
            [0, 26_988, 258, 2, 33, 29_640],
            true,
        ),
    ]
}
