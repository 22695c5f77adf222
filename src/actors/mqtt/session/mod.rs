//! The session with a broker as a state machine: takes an [`Event`] and the [`Facts`] of its time, returns
//! [`Effect`]s.
//!
//! Pure: no I/O, no timers, no clock; only the jitter of the backoff is random. The actor turns messages and
//! the client's answers into events, and carries out the effects in their order.
//!
//! | state | meaning | left when |
//! |---|---|---|
//! | `Holding` | the journal is full: not connected on purpose | the journal has room |
//! | `Waiting` | not connected; a timer runs, or the answer to an abandoned attempt is due | the timer fires, or the answer came |
//! | `Connecting` | CONNECT and the SUBSCRIBEs are in flight | they are answered |
//! | `Up` | connected and subscribed, perhaps with refused filters | the link ends, or the session gives it up |
//! | `Stopping` | the end | never |
//!
//! Owns which broker is next ([`failover`]), the judgement of losses ([`takeover`]), what the broker refuses
//! ([`refused_filters`]), and which lines are logged: each change once.

mod attempt;
mod effect;
mod event;
pub mod failover;
mod loss;
mod refused_filters;
mod subscribed;
mod takeover;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub(super) use self::effect::{Effect, FilterLine, Line, LinkReport, Trouble};
pub(super) use self::event::{Connected, Event, Facts};
use self::failover::Failover;
use self::refused_filters::RefusedFilters;
pub(super) use self::subscribed::{EchoSubscription, Subscribed};
use self::takeover::Takeover;
use crate::actors::backoff::Backoff;
use crate::clock::Mono;
use crate::domain::{Endpoint, OutageReason, Qos, TopicFilter};
use crate::journal::Space;
use crate::status::BrokerState;

/// What a session is configured with.
pub(super) struct SessionOptions {
    /// Filters with the QoS to ask for, those of last wills included.
    pub(super) subscriptions: Vec<(TopicFilter, Qos)>,
    /// The filters through which machines speak.
    pub(super) telemetry: Vec<TopicFilter>,
    /// First delay between attempts.
    pub(super) backoff_min: Duration,
    /// Longest delay between attempts.
    pub(super) backoff_max: Duration,
}

/// The states of the table above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Holding,
    Waiting,
    Connecting,
    Up { since: Mono },
    Stopping,
}

/// The session of one incarnation of the actor.
pub(super) struct Session {
    options: SessionOptions,
    state: State,
    failover: Failover,
    backoff: Backoff,
    takeover: Takeover,
    refused: RefusedFilters,
    /// Numbers the attempts to connect. Only the answer to the newest counts.
    attempt: u64,
    /// When the newest attempt began: messages since then came over its link.
    attempt_began: Mono,
    /// An attempt is not answered yet. The library answers each, and takes one at a time.
    answer_due: bool,
    timer_runs: bool,
    /// A broker has held our session in this run.
    had_session: bool,
    /// The broker of the newest link that came up.
    newest_broker: Option<Endpoint>,
    /// That broker had lost our session, or was another than before: it lacks the statuses published earlier.
    broker_forgot: bool,
    /// The newest trouble in the log. Its repetition is not logged.
    logged_trouble: Option<String>,
    /// The same for the file of filters.
    logged_file_failure: Option<String>,
    /// Collects the effects of one event.
    effects: Vec<Effect>,
}

impl Session {
    /// Creates a session. `has_room`: the journal takes messages.
    pub(super) fn new(options: SessionOptions, failover: Failover, has_room: bool) -> Self {
        let backoff = Backoff::new(options.backoff_min, options.backoff_max);
        Self {
            options,
            state: if has_room { State::Waiting } else { State::Holding },
            failover,
            backoff,
            takeover: Takeover::default(),
            refused: RefusedFilters::default(),
            attempt: 0,
            attempt_began: Mono::default(),
            answer_due: false,
            timer_runs: false,
            had_session: false,
            newest_broker: None,
            broker_forgot: false,
            logged_trouble: None,
            logged_file_failure: None,
            effects: Vec::new(),
        }
    }

    /// Handles an event and returns its effects, in order.
    pub(super) fn on(&mut self, event: Event, facts: &Facts) -> Vec<Effect> {
        if self.state == State::Stopping {
            return Vec::new();
        }
        match event {
            Event::Started => self.on_started(facts),
            Event::SpaceChanged(space) => self.on_space(space, facts),
            Event::TimerFired => self.on_timer(facts),
            Event::ConnectAnswered { attempt, outcome } => self.on_connect_answered(attempt, outcome, facts),
            Event::StaleLinkClosed => self.connect(facts),
            Event::AskedAgain { attempt, asked_at, subscribed } => {
                self.on_asked_again(attempt, asked_at, &subscribed, facts);
            }
            Event::LinkEnded { reason, taken_over } => self.on_link_ended(&reason, taken_over, facts),
            Event::BrokerUnresponsive => self.on_broker_unresponsive(facts),
            Event::SecondPassed => self.on_second(facts),
            Event::StopRequested => self.on_stop(),
        }
        std::mem::take(&mut self.effects)
    }

    /// Returns whether the link is up.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// Returns the number of the newest attempt to connect.
    pub(super) fn attempt(&self) -> u64 {
        self.attempt
    }

    /// Returns the broker that is connected, or the next to be asked.
    pub(super) fn endpoint(&self) -> &Endpoint {
        self.failover.endpoint()
    }

    /// Returns the other brokers.
    pub(super) fn other_endpoints(&self) -> Vec<Endpoint> {
        self.failover.others()
    }

    /// Returns what liveness needs to know of the link.
    pub(super) fn report(&self, up: bool) -> LinkReport {
        LinkReport {
            up,
            link: self.attempt,
            heard_from: self.attempt_began,
            forgotten: self.broker_forgot,
            refused: self.refused.among(&self.options.telemetry),
            asked_at: self.refused.asked_at(),
            reason: if self.state == State::Holding { OutageReason::Hold } else { OutageReason::LinkDown },
        }
    }

    fn on_started(&mut self, facts: &Facts) {
        let holds = self.state == State::Holding;
        self.effects.push(Effect::ForgetLink);
        self.effects.push(Effect::SetHolding(holds));
        if holds {
            self.show(BrokerState::Holding, Some("the journal is full"));
        } else {
            self.show(BrokerState::Connecting, None);
        }
        self.tell_liveness(false);
        if holds {
            self.log(Line::NotConnecting);
        } else {
            self.connect(facts);
        }
    }

    fn on_space(&mut self, space: Space, facts: &Facts) {
        match (space, self.state == State::Holding) {
            (Space::Free, true) => {
                self.state = State::Waiting;
                self.effects.push(Effect::SetHolding(false));
                self.log(Line::RoomAgain);
                self.show(BrokerState::Connecting, None);
                self.backoff.reset();
                self.connect(facts);
            }
            (Space::Full(why), false) => {
                let was_up = self.is_up();
                self.state = State::Holding;
                self.effects.push(Effect::SetHolding(true));
                let why = why.to_string();
                self.show(BrokerState::Holding, Some(&format!("the journal is full ({why})")));
                self.log(Line::LeavingForRoom(why));
                // Makes an attempt in flight stale.
                self.attempt += 1;
                self.end_link(was_up);
                self.effects.push(Effect::SayGoodbye);
            }
            _ => {}
        }
    }

    /// The one timer: starts the next attempt while the link is down, and asks for refused filters while it
    /// is up.
    fn on_timer(&mut self, facts: &Facts) {
        self.timer_runs = false;
        match self.state {
            State::Waiting => self.connect(facts),
            State::Up { .. } => self.ask_again(),
            State::Holding | State::Connecting | State::Stopping => {}
        }
    }

    fn on_second(&mut self, facts: &Facts) {
        self.check_takeover_is_over(facts);
        if self.is_up() && !facts.connected {
            self.lose_link("connection lost", false, facts);
        }
    }

    fn on_stop(&mut self) {
        let was_up = self.is_up();
        self.state = State::Stopping;
        self.attempt += 1;
        self.effects.push(Effect::Stop { was_up });
    }

    fn set_timer(&mut self, delay: Duration) {
        self.timer_runs = true;
        self.effects.push(Effect::SetTimer(delay));
    }

    fn cancel_timer(&mut self) {
        if std::mem::take(&mut self.timer_runs) {
            self.effects.push(Effect::CancelTimer);
        }
    }

    fn show(&mut self, state: BrokerState, reason: Option<&str>) {
        let (endpoint, reason) = (self.endpoint().clone(), reason.map(str::to_owned));
        self.effects.push(Effect::Show { state, reason, endpoint });
    }

    fn tell_liveness(&mut self, up: bool) {
        let report = self.report(up);
        self.effects.push(Effect::TellLiveness(report));
    }

    fn log(&mut self, line: Line) {
        let endpoint = self.endpoint().clone();
        self.effects.push(Effect::Log { line, endpoint });
    }

    fn log_filter(&mut self, line: FilterLine) {
        self.log(Line::Filters(line));
    }

    /// Logs a new trouble, but not its repetition.
    fn log_trouble(&mut self, reason: &str, trouble: Trouble) {
        if self.logged_trouble.as_deref() != Some(reason) {
            self.log(Line::Trouble { trouble, reason: reason.to_owned() });
            self.logged_trouble = Some(reason.to_owned());
        }
    }

    /// Shows that the link is down, and why.
    fn complain(&mut self, reason: &str, trouble: Trouble) {
        self.show(BrokerState::Away, Some(reason));
        self.log_trouble(reason, trouble);
    }
}
