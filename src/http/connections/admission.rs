//! Which connections stay open: a pure core.
//!
//! A connection is idle while no request of it is in flight: before the first, during a handshake, while a head arrives
//! piece by piece, and between two requests. A client that trickles bytes gains nothing: idleness counts from the
//! accept, or from the end of the last response.
//!
//! Invariants
//! - **ADM-1** Never more connections than the bound over all, nor from one address than the bound for each.
//! - **ADM-2** At a bound the connection that has been idle longest makes room: at the bound for an address one of that
//!   address, at the bound over all one of the address that has most. So nobody can keep others out by idling.
//! - **ADM-3** A request in flight is never cut off to make room. If nothing is idle, the newcomer is refused.

use std::cmp::Reverse;
use std::collections::HashMap;

use crate::clock::Mono;
use crate::http::network::Network;

/// Names a connection; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ConnectionId(u64);

/// How many connections may be open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Over all addresses.
    pub all: usize,
    /// From one address. Clients of a Unix socket have none.
    pub each_address: usize,
}

/// What becomes of a new connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict<C> {
    /// It stays; `evicted` closes the one that made room.
    Admitted { id: ConnectionId, evicted: Option<C> },
    /// It is closed: at this bound, no connection is idle.
    Refused,
}

struct Entry<C> {
    address: Option<Network>,
    requests: usize,
    idle_since: Mono,
    closer: C,
}

/// The open connections. `C` closes one.
pub(super) struct Admission<C> {
    limits: ConnectionLimits,
    next_id: u64,
    open: HashMap<ConnectionId, Entry<C>>,
    of_address: HashMap<Network, usize>,
}

impl<C> Admission<C> {
    pub(super) fn new(limits: ConnectionLimits) -> Self {
        Self { limits, next_id: 0, open: HashMap::new(), of_address: HashMap::new() }
    }

    /// Replaces the bound for each address. It counts from the next connection on.
    pub(super) fn set_each_address(&mut self, each_address: usize) {
        self.limits.each_address = each_address;
    }

    /// Returns how many connections are open.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    /// Decides on a new connection.
    pub(super) fn connect(&mut self, address: Option<Network>, closer: C, now: Mono) -> Verdict<C> {
        let of_address = address.map_or(0, |address| self.count(address));
        let victim = if of_address >= self.limits.each_address {
            self.oldest_idle(|entry| entry.address == address)
        } else if self.open.len() >= self.limits.all {
            self.oldest_idle_of_the_largest()
        } else {
            return Verdict::Admitted { id: self.insert(address, closer, now), evicted: None };
        };
        let Some(evicted) = victim.and_then(|victim| self.remove(victim)) else { return Verdict::Refused };
        Verdict::Admitted { id: self.insert(address, closer, now), evicted: Some(evicted) }
    }

    /// A request has arrived.
    pub(super) fn begin_request(&mut self, id: ConnectionId) {
        if let Some(entry) = self.open.get_mut(&id) {
            entry.requests += 1;
        }
    }

    /// The last byte of a response has been handed over, or its client is gone.
    pub(super) fn end_request(&mut self, id: ConnectionId, now: Mono) {
        if let Some(entry) = self.open.get_mut(&id) {
            entry.requests = entry.requests.saturating_sub(1);
            entry.idle_since = now;
        }
    }

    /// Forgets a connection that has ended. One that made room is forgotten already.
    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<C> {
        let entry = self.open.remove(&id)?;
        if let Some(address) = entry.address {
            match self.of_address.get_mut(&address) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(self.of_address.remove(&address)),
            }
        }
        Some(entry.closer)
    }

    fn insert(&mut self, address: Option<Network>, closer: C, now: Mono) -> ConnectionId {
        let id = ConnectionId(self.next_id);
        self.next_id += 1;
        if let Some(address) = address {
            *self.of_address.entry(address).or_default() += 1;
        }
        self.open.insert(id, Entry { address, requests: 0, idle_since: now, closer });
        id
    }

    fn count(&self, address: Network) -> usize {
        self.of_address.get(&address).copied().unwrap_or(0)
    }

    fn oldest_idle(&self, may: impl Fn(&Entry<C>) -> bool) -> Option<ConnectionId> {
        let idle = self.open.iter().filter(|(_, entry)| entry.requests == 0 && may(entry));
        idle.min_by_key(|(id, entry)| (entry.idle_since, **id)).map(|(id, _)| *id)
    }

    fn oldest_idle_of_the_largest(&self) -> Option<ConnectionId> {
        let idle = self.open.iter().filter(|(_, entry)| entry.requests == 0);
        let rank = |(id, entry): &(&ConnectionId, &Entry<C>)| {
            let of_address = entry.address.map_or(1, |address| self.count(address));
            (Reverse(of_address), entry.idle_since, **id)
        };
        idle.min_by_key(rank).map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn address(last: u8) -> Option<Network> {
        Some(Network::of(Ipv4Addr::new(10, 0, 0, last).into()))
    }

    fn admission(all: usize, each_address: usize) -> Admission<u32> {
        Admission::new(ConnectionLimits { all, each_address })
    }

    /// Connects `name` from an address; returns its id, and who made room.
    fn admit(
        admission: &mut Admission<u32>,
        last: u8,
        name: u32,
        second: u64,
    ) -> (ConnectionId, Option<u32>) {
        match admission.connect(address(last), name, Mono(second)) {
            Verdict::Admitted { id, evicted } => (id, evicted),
            Verdict::Refused => panic!("{name} is refused"),
        }
    }

    /// Proves ADM-2.
    #[test]
    fn at_the_bound_of_an_address_its_own_oldest_idle_connection_makes_room() {
        let mut admission = admission(10, 2);
        admit(&mut admission, 9, 0, 1);
        let (first, _) = admit(&mut admission, 1, 1, 2);
        admit(&mut admission, 1, 2, 3);
        // The first served a request since: the second has been idle for longer.
        admission.begin_request(first);
        admission.end_request(first, Mono(4));
        assert_eq!(admit(&mut admission, 1, 3, 5).1, Some(2));
        assert_eq!(admit(&mut admission, 1, 4, 6).1, Some(1));
        assert_eq!(admission.open(), 3);
    }

    /// Proves ADM-2.
    #[test]
    fn at_the_bound_over_all_the_address_that_has_most_makes_room() {
        let mut admission = admission(4, 4);
        admit(&mut admission, 9, 0, 1);
        for name in 1..=3 {
            admit(&mut admission, 1, name, 1 + u64::from(name));
        }
        assert_eq!(admit(&mut admission, 8, 10, 10).1, Some(1), "not the oldest of all");
        assert_eq!(admit(&mut admission, 7, 11, 11).1, Some(2));
        assert_eq!(admit(&mut admission, 6, 12, 12).1, Some(0), "all have one: the oldest");
    }

    /// Proves ADM-3.
    #[test]
    fn a_request_in_flight_is_never_cut_off_to_make_room() {
        let mut admission = admission(2, 2);
        let (first, _) = admit(&mut admission, 1, 1, 1);
        let (second, _) = admit(&mut admission, 1, 2, 2);
        admission.begin_request(first);
        admission.begin_request(second);
        assert_eq!(admission.connect(address(1), 3, Mono(3)), Verdict::Refused, "its address is full");
        assert_eq!(admission.connect(address(2), 4, Mono(3)), Verdict::Refused, "all is full");
        admission.end_request(second, Mono(4));
        assert_eq!(admit(&mut admission, 2, 5, 5).1, Some(2));
        admission.remove(first);
        assert_eq!(admit(&mut admission, 2, 6, 6).1, None, "the first has ended by itself");
    }

    #[test]
    fn clients_without_an_address_share_the_bound_over_all_alone() {
        let mut admission = admission(3, 1);
        for name in 0..3 {
            let verdict = admission.connect(None, name, Mono(u64::from(name)));
            assert!(matches!(verdict, Verdict::Admitted { evicted: None, .. }), "{verdict:?}");
        }
        let verdict = admission.connect(None, 3, Mono(3));
        assert!(matches!(verdict, Verdict::Admitted { evicted: Some(0), .. }), "{verdict:?}");
    }

    proptest! {
        /// Proves ADM-1, ADM-3.
        #[test]
        fn neither_bound_is_ever_exceeded(steps in prop::collection::vec((0_u8..4, 0_u8..4), 1..200)) {
            let mut admission = admission(6, 3);
            let mut known: Vec<ConnectionId> = Vec::new();
            let mut busy: Vec<ConnectionId> = Vec::new();
            for (at, (what, which)) in steps.into_iter().enumerate() {
                let now = Mono(at as u64);
                let chosen = known.get(usize::from(which)).copied();
                match (what, chosen) {
                    (1, Some(id)) => {
                        admission.begin_request(id);
                        busy.push(id);
                    }
                    (2, _) => if let Some(id) = busy.pop() { admission.end_request(id, now) },
                    (3, Some(id)) => {
                        admission.remove(id);
                        busy.retain(|other| *other != id);
                    }
                    _ => if let Verdict::Admitted { id, .. } = admission.connect(address(which), 0, now) {
                        known.insert(0, id);
                    },
                }
                prop_assert!(admission.open() <= 6);
                let counted: usize = admission.of_address.values().sum();
                prop_assert_eq!(counted, admission.open());
                prop_assert!(admission.of_address.values().all(|count| (1..=3).contains(count)));
                // ADM-3: whoever is busy and was not closed by itself is still there.
                let open = &admission.open;
                prop_assert!(busy.iter().all(|id| open.get(id).is_none_or(|entry| entry.requests > 0)));
                known.retain(|id| open.contains_key(id));
                let lost = busy.iter().filter(|id| !open.contains_key(id)).count();
                prop_assert_eq!(lost, 0);
            }
        }
    }
}
