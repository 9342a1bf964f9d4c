//! What a replay is asked to be. Knows how it is said on a command line, and
//! refuses what cannot be; simulates nothing.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use edge::settings::{Backend, Settings};
use edge::tiers::memory::L1Policy;

use super::faults::Fault;
use crate::caches::Policy;
use crate::model::Model;
use crate::virtual_network::{POSTGRES, VALKEY};

/// Who talks to the stores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Each request, over connections of its own
    #[default]
    Direct,
    /// Durable Objects near the data, which keep their connections
    Gateway,
    /// Each request, with Hyperdrive in front of PostgreSQL
    Hyperdrive,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Gateway => "gateway",
            Self::Hyperdrive => "hyperdrive",
        }
    }

    fn backend(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Direct | Self::Hyperdrive => "direct",
        }
    }
}

/// How much of the edge is run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Level {
    /// The edge itself, down to the bytes on its connections
    #[default]
    Full,
    /// The same policies without bytes: ten to twenty times as fast
    Fast,
}

/// A setting of the edge, as in `wrangler.toml`: `NAME=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub name: String,
    pub value: String,
}

impl FromStr for Setting {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, value) = text
            .split_once('=')
            .with_context(|| format!("{text} is not of the form NAME=value"))?;
        Ok(Self {
            name: name.trim().to_owned(),
            value: value.trim().to_owned(),
        })
    }
}

/// As the command line has it.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Arguments {
    /// Who talks to the stores
    #[arg(long, value_enum, default_value_t)]
    pub mode: Mode,
    /// A setting of the edge as in wrangler.toml, such as L1_MAX_AGE_MS=2000; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub settings: Vec<Setting>,
    /// What to take the world to be, as `sim calibrate` writes it [default: four places in Europe, America and Asia]
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Isolates of each place at the same time [default: as the model says]
    #[arg(long)]
    pub isolates: Option<u32>,
    /// What breaks, from when on and for how long: valkey@60s+30s, postgres@2m+10s, cold@5m; may be repeated
    #[arg(long = "fault", value_name = "FAULT")]
    pub faults: Vec<Fault>,
    /// How much of the edge is run
    #[arg(long, value_enum, default_value_t)]
    pub level: Level,
    /// At the fast level: what decides which copies stay in an isolate
    #[arg(long, value_enum)]
    pub l1: Option<Policy>,
    /// At the fast level: for how many copies an isolate has room [default: as many as L1_BYTES holds]
    #[arg(long, value_name = "ENTRIES", value_parser = clap::value_parser!(u32).range(1..))]
    pub l1_entries: Option<u32>,
    /// Another one draws other delays, places and isolates
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// What a replay is.
#[derive(Debug, Clone)]
pub struct Setup {
    pub mode: Mode,
    /// What was set, for the report.
    pub said: Vec<Setting>,
    pub settings: Settings,
    pub model: Model,
    pub faults: Vec<Fault>,
    pub level: Level,
    pub l1: Policy,
    pub l1_entries: Option<u32>,
    pub seed: u64,
}

/// Where the stores are is the simulation's to say.
const OURS: [&str; 3] = ["DATABASE_URL", "VALKEY_URL", "BACKEND"];

impl Setup {
    /// # Errors
    /// A setting, the model or a fault cannot be.
    pub fn of(arguments: Arguments) -> Result<Self> {
        let model = Model::said(arguments.model.as_deref())?;
        Self::with_model(arguments, model)
    }

    /// # Errors
    /// A setting or a fault cannot be.
    pub fn with_model(arguments: Arguments, mut model: Model) -> Result<Self> {
        if let Some(isolates) = arguments.isolates {
            model.isolates.per_place = isolates;
        }
        model.check()?;
        ensure!(
            arguments.level == Level::Fast
                || (arguments.l1.is_none() && arguments.l1_entries.is_none()),
            "at the full level L1 is the edge's own: set L1_POLICY and L1_BYTES, or take --level fast"
        );
        ensure!(
            arguments.l1 != Some(Policy::Unbounded) || arguments.l1_entries.is_none(),
            "an unbounded L1 has room for all: leave out --l1-entries"
        );
        let settings = settings(arguments.mode, &arguments.settings)?;
        let own = match settings.l1_policy {
            L1Policy::Adaptive => Policy::EdgeL1,
            L1Policy::Moka => Policy::EdgeL1Moka,
        };
        Ok(Self {
            settings,
            mode: arguments.mode,
            said: arguments.settings,
            model,
            faults: arguments.faults,
            level: arguments.level,
            l1: arguments.l1.unwrap_or(own),
            l1_entries: arguments.l1_entries,
            seed: arguments.seed,
        })
    }

    pub fn gateways(&self) -> u64 {
        match self.settings.backend {
            Backend::Gateway { shards } => shards,
            Backend::Direct => 0,
        }
    }
}

fn settings(mode: Mode, said: &[Setting]) -> Result<Settings> {
    for Setting { name, .. } in said {
        match name.as_str() {
            "BACKEND" => bail!("BACKEND is what --mode says: {}", mode.name()),
            name if OURS.contains(&name) => {
                bail!("{name} cannot be set here: the stores of a simulation are its own")
            }
            _ => {}
        }
    }
    let asked = RefCell::new(BTreeSet::new());
    let settings = Settings::read(&|name| {
        asked.borrow_mut().insert(name.to_owned());
        match name {
            "DATABASE_URL" => Some(format!("postgres://edge@{POSTGRES}/shop?sslmode=disable")),
            "VALKEY_URL" => Some(format!("valkey://{VALKEY}")),
            "BACKEND" => Some(mode.backend().to_owned()),
            _ => {
                let last = said.iter().rev().find(|setting| setting.name == name);
                last.map(|setting| setting.value.clone())
            }
        }
    });
    for Setting { name, .. } in said {
        ensure!(
            asked.borrow().contains(name),
            "{name} is no setting of the edge{}: the README lists them all",
            if mode == Mode::Gateway {
                ""
            } else {
                " in this mode"
            }
        );
    }
    if let Err(error) = settings.postgres() {
        bail!(
            "{}",
            error.for_operator().unwrap_or_else(|| error.to_string())
        );
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(said: &[&str], mode: Mode) -> Result<Setup> {
        Setup::of(Arguments {
            settings: said
                .iter()
                .map(|text| text.parse())
                .collect::<Result<_>>()?,
            mode,
            ..Arguments::default()
        })
    }

    #[test]
    fn settings_are_those_of_the_edge() -> Result<()> {
        let setup = setup(&["L1_MAX_AGE_MS=2000", "GATEWAY_SHARDS=3"], Mode::Gateway)?;
        assert_eq!(setup.gateways(), 3);
        Ok(())
    }

    #[test]
    fn what_cannot_be_set_is_refused_in_words() {
        for (said, mode, word) in [
            ("L1_MAX_AGE=2000", Mode::Direct, "L1_MAX_AGE is no setting"),
            ("L1_MAX_AGE_MS=90000", Mode::Direct, "from 0 to 5000"),
            ("BACKEND=gateway", Mode::Direct, "--mode"),
            ("VALKEY_URL=valkey://x", Mode::Direct, "its own"),
            ("L1_BYTES", Mode::Direct, "NAME=value"),
        ] {
            let error = setup(&[said], mode).unwrap_err().to_string();
            assert!(error.contains(word), "{said}: {error}");
        }
    }
}
