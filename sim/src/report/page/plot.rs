//! A chart as inline SVG: scales, axes, and the marks that lie on them.
//!
//! Written out here and not by a plotting library, because the page decides on
//! colours by its style sheet, in light and dark, and because a chart is as wide
//! as the screen while its letters keep their size: only the shapes are stretched,
//! everything else is placed in percent. No number that is read from a report can
//! get a mark outside of its chart. Does not know what is shown.

use maud::{Markup, html};

/// What shapes are drawn in, and then stretched to the width of the chart.
const WIDTH: f64 = 1000.0;
/// Above the shapes: room for a label.
const TOP_PX: f64 = 18.0;
/// Below them: room for the numbers of the axis.
const BOTTOM_PX: f64 = 22.0;
/// Numbers that an axis has room for on a phone.
const TICKS_MAX: usize = 5;

/// What adds up to the end of a scale may miss it by so much of it.
const ROUNDING: f64 = 1e-9;

/// Which place a value has on one side of a chart.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    low: f64,
    high: f64,
    is_logarithmic: bool,
}

impl Scale {
    /// From 0 on.
    pub fn linear(high: f64) -> Self {
        let high = if high > 0.0 { high } else { 1.0 };
        Self {
            low: 0.0,
            // Far beyond what can be counted, and near enough to be computed with.
            high: high.clamp(1e-30, 1e30),
            is_logarithmic: false,
        }
    }

    /// Whole decades from 10 to the power of `low` on, of which there is at least one.
    pub fn decades(low: i32, highest: f64) -> Self {
        let low = f64::from(low);
        Self {
            low,
            // Also where there is no logarithm.
            high: highest.min(1e30).log10().ceil().max(low + 1.0),
            is_logarithmic: true,
        }
    }

    /// 0…1; whatever is beyond an end stands at it.
    pub fn place(self, value: f64) -> f64 {
        let value = if self.is_logarithmic {
            value.log10()
        } else {
            value
        };
        let place = (value - self.low) / (self.high - self.low);
        // What is not a number has to stand somewhere as well.
        if place.is_nan() {
            0.0
        } else {
            place.clamp(0.0, 1.0)
        }
    }

    /// Round values, at most as many as there is room for.
    pub fn ticks(self) -> Vec<f64> {
        if self.is_logarithmic {
            let decades = self.high - self.low;
            let step = (1_u32..).map(f64::from).find(|step| fits(*step, decades));
            return multiples(step.unwrap_or(decades), decades)
                .map(|decade| 10_f64.powf(self.low + decade))
                .collect();
        }
        let decade = 10_f64.powf((self.high / TICKS_MAX as f64).log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0]
            .map(|digit| digit * decade)
            .into_iter()
            .find(|step| fits(*step, self.high))
            .unwrap_or(self.high);
        multiples(step, self.high).collect()
    }

    /// Every power of ten on a logarithmic scale.
    fn powers(self) -> impl Iterator<Item = f64> {
        let decades = if self.is_logarithmic {
            self.high - self.low
        } else {
            0.0
        };
        // Whole, and few.
        (1..decades as u32).map(move |decade| 10_f64.powf(self.low + f64::from(decade)))
    }

    /// Moments that a clock has hands for, or days.
    pub fn ticks_ms(self) -> Vec<f64> {
        const SECOND_MS: f64 = 1000.0;
        const DAY_MS: f64 = 86_400.0 * SECOND_MS;
        const STEPS_S: [u32; 18] = [
            1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200,
            86_400,
        ];
        if self.high <= SECOND_MS {
            return self.ticks();
        }
        let steps = STEPS_S.map(|step_s| f64::from(step_s) * SECOND_MS);
        if let Some(step) = steps.into_iter().find(|step| fits(*step, self.high)) {
            return multiples(step, self.high).collect();
        }
        let days = Self::linear(self.high / DAY_MS).ticks();
        days.into_iter().map(|days| days * DAY_MS).collect()
    }
}

/// Whether there is room for all multiples up to the last.
fn fits(step: f64, last: f64) -> bool {
    last / step * (1.0 + ROUNDING) < TICKS_MAX as f64
}

fn multiples(step: f64, last: f64) -> impl Iterator<Item = f64> {
    (0..TICKS_MAX)
        .map(move |index| index as f64 * step)
        .take_while(move |value| *value <= last * (1.0 + ROUNDING))
}

/// A value with what is written beside it.
pub type Tick = (f64, String);

pub fn labelled(ticks: Vec<f64>, label: impl Fn(f64) -> String) -> Vec<Tick> {
    ticks
        .into_iter()
        .map(|value| (value, label(value)))
        .collect()
}

pub struct Plot {
    pub x: Scale,
    pub y: Scale,
    pub x_ticks: Vec<Tick>,
    pub y_ticks: Vec<Tick>,
    pub height_px: f64,
}

impl Plot {
    /// `title` and `description` for who does not see it; `shapes` are stretched,
    /// `marks` lie on them and keep their form.
    pub fn svg(&self, title: &str, description: &str, shapes: &Markup, marks: &Markup) -> Markup {
        let bottom = TOP_PX + self.height_px;
        html! {
            svg.plot role="img" aria-label=(format!("{title}. {description}")) height=(number(bottom + BOTTOM_PX)) {
                title { (title) }
                desc { (description) }
                @for (value, label) in &self.y_ticks {
                    @let y = number(self.y_px(*value));
                    line.grid x1="0" x2="100%" y1=(y) y2=(y) {}
                    text.tick x="-8" y=(y) dy="0.35em" text-anchor="end" { (label) }
                }
                svg y=(number(TOP_PX)) width="100%" height=(number(self.height_px))
                    viewBox=(format!("0 0 {WIDTH} {}", self.height_px)) preserveAspectRatio="none" {
                    (shapes)
                }
                line.axis x1="0" x2="100%" y1=(number(bottom)) y2=(number(bottom)) {}
                @for value in self.x.powers() {
                    @let place = percent(self.x.place(value));
                    line.axis x1=(place) x2=(place) y1=(number(bottom)) y2=(number(bottom + 3.0)) {}
                }
                @for (value, label) in &self.x_ticks {
                    @let place = self.x.place(*value);
                    line.axis x1=(percent(place)) x2=(percent(place)) y1=(number(bottom)) y2=(number(bottom + 4.0)) {}
                    text.tick x=(percent(place)) y=(number(bottom + 17.0)) text-anchor=(anchor(place, 0.02)) { (label) }
                }
                (marks)
            }
        }
    }

    /// From each point on as high as it says, from the bottom to the right end:
    /// between two of a distribution's values there is none.
    pub fn curve(&self, points: &[(f64, f64)]) -> Markup {
        let Some((first, _)) = points.first() else {
            return html! {};
        };
        let mut line = format!("M{} {}", self.x_of(*first), number(self.height_px));
        for (x, y) in points {
            line += &format!("H{}V{}", self.x_of(*x), self.y_of(*y));
        }
        line += &format!("H{WIDTH}");
        html! { path.line d=(line) {} }
    }

    /// The outline of neighbours that each have a start, an end, a bottom and a top.
    pub fn steps(&self, steps: &[Step]) -> String {
        let mut outline = String::new();
        for step in steps {
            let command = if outline.is_empty() { "M" } else { "L" };
            let y = self.y_of(step.top);
            outline += &format!(
                "{command}{} {y}L{} {y}",
                self.x_of(step.start),
                self.x_of(step.end)
            );
        }
        for step in steps.iter().rev() {
            let y = self.y_of(step.bottom);
            outline += &format!("L{} {y}L{} {y}", self.x_of(step.end), self.x_of(step.start));
        }
        if !outline.is_empty() {
            outline.push('Z');
        }
        outline
    }

    /// The upper edge of the same.
    pub fn edge(&self, steps: &[Step]) -> String {
        let mut edge = String::new();
        for step in steps {
            let command = if edge.is_empty() { "M" } else { "L" };
            let y = self.y_of(step.top);
            edge += &format!(
                "{command}{} {y}L{} {y}",
                self.x_of(step.start),
                self.x_of(step.end)
            );
        }
        edge
    }

    /// From top to bottom, with words above.
    pub fn line_at(&self, x: f64, label: &str) -> Markup {
        let place = self.x.place(x);
        let bottom = number(TOP_PX + self.height_px);
        html! {
            line.limit x1=(percent(place)) x2=(percent(place)) y1=(number(TOP_PX - 4.0)) y2=(bottom) {}
            text.label x=(percent(place)) y=(number(TOP_PX - 8.0)) text-anchor=(anchor(place, 0.25)) { (label) }
        }
    }

    /// All that is to the right of `x`.
    pub fn beyond(&self, x: f64) -> Markup {
        let place = self.x.place(x);
        html! {
            rect.beyond x=(number(place * WIDTH)) y="0" width=(number((1.0 - place) * WIDTH)) height=(number(self.height_px)) {}
        }
    }

    pub fn dot(&self, x: f64, y: f64, title: &str) -> Markup {
        html! {
            circle.dot cx=(percent(self.x.place(x))) cy=(number(self.y_px(y))) r="3.5" { title { (title) } }
        }
    }

    /// From a point down to the axis.
    pub fn stem(&self, x: f64, y: f64) -> Markup {
        let place = percent(self.x.place(x));
        html! {
            line.stem x1=(place) x2=(place) y1=(number(self.y_px(y))) y2=(number(TOP_PX + self.height_px)) {}
        }
    }

    /// Words above a point.
    pub fn words(&self, x: f64, y: f64, words: &str) -> Markup {
        let place = self.x.place(x);
        html! {
            text.label x=(percent(place)) y=(number(self.y_px(y) - 8.0)) text-anchor=(anchor(place, 0.25)) { (words) }
        }
    }

    /// As high as the chart, and says `title` to who points at it.
    pub fn column(&self, start: f64, end: f64, title: &str) -> Markup {
        let (left, right) = (self.x.place(start), self.x.place(end));
        html! {
            rect.column x=(percent(left)) width=(percent(right - left)) y=(number(TOP_PX)) height=(number(self.height_px)) { title { (title) } }
        }
    }

    /// A mark on the axis.
    pub fn notch(&self, start: f64, end: f64) -> Markup {
        let (left, right) = (self.x.place(start), self.x.place(end));
        html! {
            rect.notch x=(percent(left)) width=(percent((right - left).max(0.003))) y=(number(TOP_PX - 7.0)) height="5" {}
        }
    }

    fn x_of(&self, value: f64) -> String {
        number(self.x.place(value) * WIDTH)
    }

    fn y_of(&self, value: f64) -> String {
        number((1.0 - self.y.place(value)) * self.height_px)
    }

    fn y_px(&self, value: f64) -> f64 {
        TOP_PX + (1.0 - self.y.place(value)) * self.height_px
    }
}

/// One of the neighbours in [`Plot::steps`].
#[derive(Debug, Clone, Copy)]
pub struct Step {
    pub start: f64,
    pub end: f64,
    pub bottom: f64,
    pub top: f64,
}

/// Words near an end of the axis grow away from it.
fn anchor(place: f64, near: f64) -> &'static str {
    if place <= near {
        "start"
    } else if place >= 1.0 - near {
        "end"
    } else {
        "middle"
    }
}

/// Hundredths of a unit are finer than any screen.
fn number(value: f64) -> String {
    let rounded = format!("{value:.2}");
    rounded.trim_end_matches('0').trim_end_matches('.').into()
}

fn percent(place: f64) -> String {
    format!("{}%", number(place * 100.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        for (high, ticks) in [
            (7.0, vec![0.0, 2.0, 4.0, 6.0]),
            (100.0, vec![0.0, 25.0, 50.0, 75.0, 100.0]),
            (114.0, vec![0.0, 25.0, 50.0, 75.0, 100.0]),
        ] {
            assert_eq!(Scale::linear(high).ticks(), ticks);
        }
        let four = Scale::decades(-1, 900.0);
        assert_eq!(four.ticks(), [0.1, 1.0, 10.0, 100.0, 1000.0]);
        assert!(four.powers().eq([1.0, 10.0, 100.0]));
        let five = Scale::decades(-1, 9000.0);
        assert_eq!(five.ticks(), [0.1, 10.0, 1000.0]);
    }

    #[test]
    fn ticks_of_time_are_hours_and_days() {
        const HOUR_MS: f64 = 3_600_000.0;
        let ticks_h = |hours| {
            Scale::linear(hours * HOUR_MS)
                .ticks_ms()
                .into_iter()
                .map(|ms| ms / HOUR_MS)
        };
        assert!(ticks_h(1.03).eq([0.0, 0.25, 0.5, 0.75, 1.0]));
        assert!(ticks_h(24.0).eq([0.0, 6.0, 12.0, 18.0, 24.0]));
        assert!(ticks_h(7.0 * 24.0).eq([0.0, 48.0, 96.0, 144.0]));
    }

    #[test]
    fn a_logarithmic_axis_begins_at_its_low_end() {
        let scale = Scale::decades(-1, 100.0);
        assert_eq!(scale.place(0.0), 0.0);
        assert_eq!(scale.place(0.1), 0.0);
        assert!((scale.place(1.0) - 1.0 / 3.0).abs() < 1e-9);
        assert_eq!(scale.place(100.0), 1.0);
    }

    proptest! {
        #[test]
        fn every_value_has_a_place_on_every_scale(high in any::<f64>(), value in any::<f64>(), low in -3..3) {
            for scale in [Scale::linear(high), Scale::decades(low, high)] {
                prop_assert!((0.0..=1.0).contains(&scale.place(value)));
                for ticks in [scale.ticks(), scale.ticks_ms()] {
                    prop_assert!((1..=TICKS_MAX).contains(&ticks.len()), "{scale:?} {ticks:?}");
                    prop_assert!(ticks.iter().all(|tick| tick.is_finite()), "{scale:?} {ticks:?}");
                }
            }
        }
    }
}
