//! Linked lists over the same numbered things, each with its weight.
//!
//! A thing is in at most one of them. The links of all stand in one array at the
//! thing's own number, so that moving one allocates nothing and looks nothing
//! up. Knows order and weight; does not know which end is good.

/// The number of a thing.
pub type Id = u32;
/// The number of a list.
pub type List = u8;

/// Of a thing that is in no list.
const NOWHERE: List = List::MAX;

#[derive(Debug, Clone, Copy)]
struct Place {
    newer: u32,
    older: u32,
    weight: u32,
    list: List,
}

/// `N` lists. The first `N` places are no things but the beginning and end of
/// each list, which makes it a ring.
#[derive(Debug)]
pub struct Lists<const N: usize> {
    places: Vec<Place>,
    weights: [u64; N],
}

impl<const N: usize> Lists<N> {
    pub fn new() -> Self {
        let ring = |list| Place {
            newer: list,
            older: list,
            weight: 0,
            list: NOWHERE,
        };
        Self {
            places: (0..N as u32).map(ring).collect(),
            weights: [0; N],
        }
    }

    /// The list that it is in.
    pub fn list(&self, id: Id) -> Option<List> {
        let place = self.places.get(id as usize + N)?;
        (place.list != NOWHERE).then_some(place.list)
    }

    /// What all in a list weigh.
    pub fn weight(&self, list: List) -> u64 {
        self.weights.get(usize::from(list)).copied().unwrap_or(0)
    }

    pub fn oldest(&self, list: List) -> Option<Id> {
        self.id(self.place(u32::from(list)).newer)
    }

    /// The one that came after it; None where it is the newest.
    pub fn newer(&self, id: Id) -> Option<Id> {
        self.id(self.place(id + N as u32).newer)
    }

    /// Makes it the newest of a list, wherever it was.
    pub fn put(&mut self, id: Id, list: List, weight: u32) {
        let at = id + N as u32;
        if self.list(id) == Some(list) && self.place(at).newer == u32::from(list) {
            // As in a burst.
            let old = std::mem::replace(&mut self.place_mut(at).weight, weight);
            let sum = self.sum(list);
            *sum = *sum - u64::from(old) + u64::from(weight);
            return;
        }
        self.take(id);
        while self.places.len() <= at as usize {
            let nowhere = self.places.len() as u32;
            self.places.push(Place {
                newer: nowhere,
                older: nowhere,
                weight: 0,
                list: NOWHERE,
            });
        }
        let ring = u32::from(list);
        let newest = self.place(ring).older;
        *self.place_mut(at) = Place {
            newer: ring,
            older: newest,
            weight,
            list,
        };
        self.place_mut(newest).newer = at;
        self.place_mut(ring).older = at;
        *self.sum(list) += u64::from(weight);
    }

    /// Takes it out of the list that it is in.
    pub fn take(&mut self, id: Id) {
        let Some(list) = self.list(id) else {
            return;
        };
        let at = id + N as u32;
        let Place {
            newer,
            older,
            weight,
            ..
        } = *self.place(at);
        self.place_mut(newer).older = older;
        self.place_mut(older).newer = newer;
        self.place_mut(at).list = NOWHERE;
        *self.sum(list) -= u64::from(weight);
    }

    fn id(&self, at: u32) -> Option<Id> {
        at.checked_sub(N as u32)
    }

    // A list is below `N`.
    #[allow(clippy::indexing_slicing)]
    fn sum(&mut self, list: List) -> &mut u64 {
        &mut self.weights[usize::from(list)]
    }

    // Places come out of our own links.
    #[allow(clippy::indexing_slicing)]
    fn place(&self, at: u32) -> &Place {
        &self.places[at as usize]
    }

    #[allow(clippy::indexing_slicing)]
    fn place_mut(&mut self, at: u32) -> &mut Place {
        &mut self.places[at as usize]
    }
}
