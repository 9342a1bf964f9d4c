//! The commands over a recorded trace: their JSON is the same on any machine.

use std::path::Path;

use anyhow::Result;
use rayon::ThreadPoolBuilder;
use sim::study::{self, CurveOptions, Size, Subject};

fn subject() -> Subject {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data");
    Subject {
        trace: data.join("weblog-424-norobots-evening.slt.gz"),
        format: None,
        sizes: vec![Size::Percent(10.0), Size::Entries(20), Size::Entries(500)],
    }
}

#[test]
fn the_json_does_not_tell_how_many_threads_there_were() -> Result<()> {
    let json = |threads| {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build()?;
        let report = pool.install(|| study::policies(&subject()))?;
        anyhow::Ok(report.json().to_string())
    };
    let one = json(1)?;
    assert_eq!(one, json(4)?);
    assert!(one.contains(r#""entries":[20,200,500]"#), "{one}");
    Ok(())
}

#[test]
fn the_curve_says_the_same_as_the_policies() -> Result<()> {
    let options = CurveOptions {
        sample: None,
        l1: true,
    };
    let curve = study::curve(&subject(), &options)?.json();
    let policies = study::policies(&subject())?.json();
    for name in ["LRU", "edge L1"] {
        let named = |policy: &&serde_json::Value| policy["name"] == name;
        let ratios = &policies["policies"]
            .as_array()
            .unwrap()
            .iter()
            .find(named)
            .unwrap()["missRatios"];
        for (found, expected) in curve["missRatios"][name]
            .as_array()
            .unwrap()
            .iter()
            .zip(ratios.as_array().unwrap())
        {
            assert!(
                (found.as_f64().unwrap() - expected.as_f64().unwrap()).abs() < 1e-12,
                "{name}"
            );
        }
    }
    Ok(())
}

#[test]
fn a_sample_must_be_a_share() {
    for sample in [0.0, -1.0, 1.5, f64::NAN] {
        let options = CurveOptions {
            sample: Some(sample),
            l1: false,
        };
        assert!(study::curve(&subject(), &options).is_err(), "{sample}");
    }
}
