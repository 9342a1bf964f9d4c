//! What the columns' types accept and show.

pub(super) struct Decimal;

impl Decimal {
    pub fn hundredths(_: i64) -> Self {
        Self
    }
}
