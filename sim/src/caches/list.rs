//! A doubly linked list through an array: the links of an id are at its own
//! place, so that moving it allocates nothing and looks nothing up.
//!
//! Knows order. Does not know which end is good.

use super::Id;

#[derive(Debug, Clone, Copy)]
struct Links {
    newer: Id,
    older: Id,
}

/// The ids that are in it, from the newest to the oldest. The last place of the
/// array is no id but the ring's beginning and end.
#[derive(Debug, Clone)]
pub(super) struct List {
    links: Vec<Links>,
    ends: Id,
}

impl List {
    pub(super) fn new(distinct: u32) -> Self {
        let nowhere = Links {
            newer: distinct,
            older: distinct,
        };
        Self {
            links: vec![nowhere; distinct as usize + 1],
            ends: distinct,
        }
    }

    fn links(&self, id: Id) -> Links {
        // An id that is not below `distinct` is at no place; the ends are a safe answer.
        self.links.get(id as usize).copied().unwrap_or(Links {
            newer: self.ends,
            older: self.ends,
        })
    }

    fn join(&mut self, newer: Id, older: Id) {
        if let Some(links) = self.links.get_mut(newer as usize) {
            links.older = older;
        }
        if let Some(links) = self.links.get_mut(older as usize) {
            links.newer = newer;
        }
    }

    /// The oldest; the ends where it is empty.
    pub(super) fn oldest(&self) -> Id {
        self.links(self.ends).newer
    }

    /// The one that came after `id`; None where it is the newest.
    pub(super) fn newer(&self, id: Id) -> Option<Id> {
        let newer = self.links(id).newer;
        (newer != self.ends).then_some(newer)
    }

    /// `id` must not be in it.
    pub(super) fn push_newest(&mut self, id: Id) {
        let newest = self.links(self.ends).older;
        self.join(id, newest);
        self.join(self.ends, id);
    }

    /// `id` must be in it.
    pub(super) fn remove(&mut self, id: Id) {
        let Links { newer, older } = self.links(id);
        self.join(newer, older);
    }

    /// `id` must be in it.
    pub(super) fn renew(&mut self, id: Id) {
        if self.links(self.ends).older != id {
            self.remove(id);
            self.push_newest(id);
        }
    }
}
