//! What is sent at one moment: a request, or a flow of them, each sent when the
//! one before is answered. Knows nothing of time.

use rustc_hash::FxHashMap;

use super::Request;

/// One request, or all of a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    /// Their places among the requests, in order; at least one.
    places: Vec<usize>,
    pub is_flow: bool,
}

impl Visit {
    pub fn of<'a>(&'a self, requests: &'a [Request]) -> impl Iterator<Item = &'a Request> {
        self.places.iter().filter_map(|place| requests.get(*place))
    }

    pub fn places(&self) -> &[usize] {
        &self.places
    }
}

/// In the order of their first requests. What lies between two requests of a
/// flow belongs to others.
pub fn visits(requests: &[Request]) -> Vec<Visit> {
    let mut visits: Vec<Visit> = Vec::new();
    let mut begun = FxHashMap::default();
    for (place, request) in requests.iter().enumerate() {
        let is_flow = request.flow != 0;
        if is_flow {
            let visit = *begun.entry(request.flow).or_insert(visits.len());
            if let Some(visit) = visits.get_mut(visit) {
                visit.places.push(place);
                continue;
            }
        }
        visits.push(Visit {
            places: vec![place],
            is_flow,
        });
    }
    visits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::Operation;

    #[test]
    fn a_flow_is_one_visit_also_when_others_come_in_between() {
        let requests = [1, 0, 1, 2, 0].map(|flow| Request {
            flow,
            ..Request::new(0, Operation::Session, 0)
        });
        let visits = visits(&requests);
        let places: Vec<&[usize]> = visits.iter().map(Visit::places).collect();
        assert_eq!(places, [&[0, 2][..], &[1], &[3], &[4]]);
        let flows: Vec<bool> = visits.iter().map(|visit| visit.is_flow).collect();
        assert_eq!(flows, [true, false, true, false]);
    }
}
