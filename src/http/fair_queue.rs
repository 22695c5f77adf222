//! Who is next: jobs of many hosts for a few threads.
//!
//! A pure core; [`fair_threads`](super::fair_threads) runs the jobs. The host with the fewest running jobs is next, and hosts with
//! equally many take turns, so a host with a thousand questions delays another's by one job, not by a thousand.
//!
//! Invariants
//! - **FAIR-1** No host runs jobs on all threads, if there are several, so a host that asks for the first time finds one free or soon free.
//! - **FAIR-2** A host may wait in as many places as are still free. So the queue never fills up: hosts that wait in many
//!   places leave room for the one that waits in none.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::network::Network;

/// Who asks. `None` is Andon itself.
pub type Host = Option<Network>;

/// A place in the queue. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// Bounds of a queue.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Most running jobs: the threads.
    pub running_max: usize,
    /// Most running jobs of a host.
    pub running_of_host_max: usize,
    /// Most waiting jobs.
    pub waiting_max: usize,
    /// Most waiting jobs of a host.
    pub waiting_of_host_max: usize,
}

/// The queue of jobs `J`.
pub struct FairQueue<J> {
    bounds: Bounds,
    running: usize,
    waiting: usize,
    tickets: u64,
    /// Hosts with a job that runs or waits.
    hosts: HashMap<Host, JobsOfHost<J>>,
    /// Hosts with waiting jobs; the one whose last turn is longest ago comes first.
    turns: VecDeque<Host>,
}

struct JobsOfHost<J> {
    running: usize,
    waiting: BTreeMap<Ticket, J>,
}

impl<J> FairQueue<J> {
    /// Creates an empty queue.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, running: 0, waiting: 0, tickets: 0, hosts: HashMap::new(), turns: VecDeque::new() }
    }

    /// Returns how many jobs wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Queues a job. Returns it if this host has too many that wait.
    pub fn push(&mut self, host: Host, job: J) -> Result<Ticket, J> {
        let free = self.bounds.waiting_max.saturating_sub(self.waiting);
        let waiting_of_host = self.hosts.get(&host).map_or(0, |jobs| jobs.waiting.len());
        if waiting_of_host >= free.min(self.bounds.waiting_of_host_max) {
            return Err(job);
        }
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let empty = || JobsOfHost { running: 0, waiting: BTreeMap::new() };
        self.hosts.entry(host).or_insert_with(empty).waiting.insert(ticket, job);
        self.waiting += 1;
        if waiting_of_host == 0 {
            self.turns.push_back(host);
        }
        Ok(ticket)
    }

    /// Takes the job that runs next. [`Self::finished`] must follow once it has run.
    pub fn next(&mut self) -> Option<(Host, J)> {
        if self.running >= self.bounds.running_max {
            return None;
        }
        let running_of = |host: &Host| self.hosts.get(host).map_or(0, |jobs| jobs.running);
        let turn = (0..self.turns.len()).min_by_key(|turn| running_of(&self.turns[*turn]))?;
        if running_of(&self.turns[turn]) >= self.bounds.running_of_host_max {
            return None;
        }
        let host = self.turns.remove(turn)?;
        let jobs = self.hosts.get_mut(&host)?;
        let (_, job) = jobs.waiting.pop_first()?;
        jobs.running += 1;
        if !jobs.waiting.is_empty() {
            self.turns.push_back(host);
        }
        self.running += 1;
        self.waiting -= 1;
        Some((host, job))
    }

    /// Notes that a job of this host has run.
    pub fn finished(&mut self, host: Host) {
        if let Some(jobs) = self.hosts.get_mut(&host) {
            jobs.running -= 1;
            self.running -= 1;
            self.drop_if_empty(host);
        }
    }

    /// Takes a job out of the queue. `None` if its turn has come already.
    pub fn leave(&mut self, host: Host, ticket: Ticket) -> Option<J> {
        let jobs = self.hosts.get_mut(&host)?;
        let job = jobs.waiting.remove(&ticket)?;
        self.waiting -= 1;
        if jobs.waiting.is_empty() {
            self.turns.retain(|turn| *turn != host);
        }
        self.drop_if_empty(host);
        Some(job)
    }

    fn drop_if_empty(&mut self, host: Host) {
        if self.hosts.get(&host).is_some_and(|jobs| jobs.running == 0 && jobs.waiting.is_empty()) {
            self.hosts.remove(&host);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds =
        Bounds { running_max: 3, running_of_host_max: 2, waiting_max: 16, waiting_of_host_max: 12 };

    fn host(number: u8) -> Host {
        Some(Network::of(Ipv4Addr::new(10, 0, 0, number).into()))
    }

    fn filled(asked: &[(u8, u32)]) -> FairQueue<u32> {
        let mut queue = FairQueue::new(BOUNDS);
        for (from, job) in asked {
            queue.push(host(*from), *job).unwrap();
        }
        queue
    }

    /// Proves FAIR-1.
    #[test]
    fn a_host_with_many_jobs_leaves_a_thread_to_a_host_that_comes_later() {
        let mut queue = filled(&[(1, 10), (1, 11), (1, 12), (1, 13)]);
        assert_eq!([queue.next(), queue.next()], [Some((host(1), 10)), Some((host(1), 11))]);
        assert_eq!(queue.next(), None, "it has its share");
        queue.push(host(2), 20).unwrap();
        assert_eq!(queue.next(), Some((host(2), 20)));
        assert_eq!(queue.next(), None, "all threads work");
        queue.finished(host(1));
        assert_eq!(queue.next(), Some((host(1), 12)));
    }

    #[test]
    fn hosts_take_turns_and_each_host_keeps_its_order() {
        let mut queue = filled(&[(1, 10), (1, 11), (1, 12), (2, 20), (2, 21), (3, 30)]);
        let mut order = Vec::new();
        while let Some((from, job)) = queue.next() {
            order.push(job);
            queue.finished(from);
        }
        assert_eq!(order, [10, 20, 30, 11, 21, 12]);
        assert_eq!(
            (queue.hosts.len(), queue.turns.len(), queue.waiting()),
            (0, 0, 0),
            "nothing is left behind"
        );
    }

    /// Proves FAIR-2.
    #[test]
    fn hosts_that_wait_in_many_places_leave_one_to_a_host_that_waits_in_none() {
        let mut queue = FairQueue::new(BOUNDS);
        for _ in 0..2 * BOUNDS.waiting_max {
            for from in 1..=5 {
                let _full = queue.push(host(from), 0);
            }
        }
        assert!(queue.waiting() < BOUNDS.waiting_max);
        assert!(queue.push(host(6), 0).is_ok());
    }

    #[test]
    fn a_job_that_leaves_frees_its_place_and_does_not_run() {
        let mut queue = filled(&[(1, 10)]);
        let ticket = queue.push(host(1), 11).unwrap();
        assert_eq!(queue.leave(host(1), ticket), Some(11));
        assert_eq!(queue.leave(host(1), ticket), None);
        assert_eq!((queue.next(), queue.next()), (Some((host(1), 10)), None));
        queue.finished(host(1));
        assert_eq!((queue.hosts.len(), queue.turns.len(), queue.waiting()), (0, 0, 0));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(u8),
        Next,
        Finish(usize),
        Leave(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0u8..6).prop_map(Step::Push),
            3 => Just(Step::Next),
            2 => (0usize..100).prop_map(Step::Finish),
            1 => (0usize..100).prop_map(Step::Leave),
        ];
        prop::collection::vec(step, 0..300)
    }

    proptest! {
        /// Proves FAIR-1, FAIR-2.
        #[test]
        fn every_job_runs_once_within_the_bounds_or_leaves(steps in steps()) {
            let mut queue = FairQueue::new(BOUNDS);
            let (mut running, mut tickets, mut pushed, mut ended) = (Vec::<Host>::new(), Vec::new(), 0, 0);
            for step in steps {
                match step {
                    Step::Push(from) => {
                        if let Ok(ticket) = queue.push(host(from), ()) {
                            tickets.push((host(from), ticket));
                            pushed += 1;
                        }
                    }
                    Step::Next => running.extend(queue.next().map(|(from, ())| from)),
                    Step::Finish(at) if !running.is_empty() => {
                        let from = running.swap_remove(at % running.len());
                        queue.finished(from);
                        ended += 1;
                    }
                    Step::Leave(at) if !tickets.is_empty() => {
                        let (from, ticket) = tickets.swap_remove(at % tickets.len());
                        ended += usize::from(queue.leave(from, ticket).is_some());
                    }
                    Step::Finish(_) | Step::Leave(_) => {}
                }
                prop_assert!(running.len() <= BOUNDS.running_max && queue.waiting() <= BOUNDS.waiting_max);
                for from in 0..6 {
                    let of_host = running.iter().filter(|host_of| **host_of == host(from)).count();
                    prop_assert!(of_host <= BOUNDS.running_of_host_max);
                }
                prop_assert_eq!(pushed, ended + running.len() + queue.waiting());
            }
            while queue.waiting() > 0 || !running.is_empty() {
                running.extend(queue.next().map(|(from, ())| from));
                running.pop().into_iter().for_each(|from| queue.finished(from));
            }
            prop_assert!(queue.hosts.is_empty() && queue.turns.is_empty());
        }
    }
}
