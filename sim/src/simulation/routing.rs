//! Where a request goes: which place, and which of its isolates.
//!
//! As recorded, or else by the client's name, so that a client always comes to
//! the same one, on every machine.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use crate::model::Model;
use crate::traffic::{Request, Traffic};

/// A place of the model, and one of its isolates.
pub type Slot = (usize, u32);

pub fn slot(model: &Model, traffic: &Traffic, request: &Request) -> Slot {
    let client = stable(traffic.clients.name(request.client));
    let place = place(model, traffic.places.name(request.place), client);
    (
        place,
        (client >> 32) as u32 % model.isolates.per_place.max(1),
    )
}

/// The one of that name, or any, by weight.
fn place(model: &Model, name: &str, client: u64) -> usize {
    let places = &model.places;
    if let Some(place) = places.iter().position(|place| place.name == name) {
        return place;
    }
    let all: u64 = places.iter().map(|place| u64::from(place.weight)).sum();
    let mut drawn = client % all.max(1);
    for (number, place) in places.iter().enumerate() {
        match drawn.checked_sub(u64::from(place.weight)) {
            Some(left) => drawn = left,
            None => return number,
        }
    }
    0
}

/// The same for a name everywhere.
pub fn stable(name: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_place_is_taken_and_others_are_spread_by_weight() {
        let model = Model::default();
        let counts = (0..10_000).fold([0; 4], |mut counts, client| {
            let number = place(&model, "", stable(&format!("c{client}")));
            counts
                .iter_mut()
                .skip(number)
                .take(1)
                .for_each(|count| *count += 1);
            counts
        });
        for (count, place) in counts.iter().zip(&model.places) {
            let expected = place.weight * 1_000;
            assert!(expected.abs_diff(*count) < 200, "{counts:?}");
        }
        assert_eq!(place(&model, "SIN", 0), 3);
    }
}
