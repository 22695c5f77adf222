//! Whether the link is alive, and which silence on it is proven. Pure: it reads no clock and sends nothing.
//!
//! Receives every message, answer and echo, and the start and end of the link; [`LinkHealth::check`] runs ten
//! times a second. Returns what to ask the broker, the newest proof, and when the link is dead.
//!
//! Invariants
//! - LINK-1 The proof is our echo: a message of our own that comes back in the callback, behind everything
//!   that the broker had queued for us when it read it. A machine that was silent until we *sent* the echo
//!   was really silent. One echo is in flight at a time. Without a usable echo the answer to an UNSUBSCRIBE
//!   takes its place; it overtakes the queue.
//! - LINK-2 Everything else from the broker is a sign of life and proves nothing.
//! - LINK-3 A broker that gave no sign of life for longer than [`PROMPT`] while it was asked was frozen or
//!   overloaded. Messages of that time wait in the *devices'* connections, and the broker may read our echo
//!   first. So that echo is no proof. The broker gets as long as it was away, between 2 and 60 s, and then a
//!   second echo has to be prompt. A broker that is always as slow is believed after 8 s more: silence must
//!   be believed some day.
//! - LINK-4 A standstill of our own (the process was stopped, or a message in the callback waited for the
//!   disk) counts like one of the broker: its cause may have stopped others, too. An echo in flight at that
//!   time is no proof.
//! - LINK-5 A broker that gave no sign of life for `ask_after` is asked. If it gives none for `answer_within`
//!   after that, the link is dead: within one and a half keep-alives. The library alone takes up to two and a
//!   half: it pings after one keep-alive of silence and waits one and a half for the answer (paho C 1.3.16,
//!   `MQTTProtocol_keepalive`). We ask long before a machine could fall silent, so that the answer tells how
//!   long the broker was frozen. While a message is in the callback nothing is judged: the broker has just
//!   spoken, and the disk is slow.
//! - LINK-6 A missing echo ends no link. It is lost, and sent again, once the broker has acknowledged it and
//!   then sent nothing for `ask_after`, or after [`ECHO_MAX`]. After three losses in a row the echo is
//!   unusable, as soon as no message has come for `offline_after`, or the losses have lasted three minutes
//!   (an hour, if an echo ever came back). A test echo a minute notices when it works again.

mod echo_trust;
mod grace;
mod question;
#[cfg(test)]
mod tests;
mod timing;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::echo_trust::EchoTrust;
use self::grace::Doubt;
use self::question::{Question, Up};
pub use self::timing::Timing;
use crate::clock::Mono;
use crate::domain::Seq;

/// An answer within this is prompt. In normal operation our checks pause no longer, and one message takes no
/// longer.
const PROMPT: Duration = Duration::from_millis(500);
/// The shortest standstill of our own that is logged.
const STANDSTILL_LOGGED_MIN: Duration = Duration::from_secs(3);
/// How often to call [`LinkHealth::check`].
pub const CHECK_EVERY: Duration = Duration::from_millis(100);
/// How long an echo may be queued behind messages before another is sent.
const ECHO_MAX: Duration = Duration::from_secs(60);

/// A proof that machines without a message were really silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkProof {
    /// The link was alive at this instant.
    pub at: Mono,
    /// Everything that was queued for us at that instant is in the journal, up to here.
    pub upto: Seq,
}

/// What the actor has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Publish the echo with this number, see [`LinkHealth::echo_payload`].
    SendEcho(u64),
    /// Send an UNSUBSCRIBE, as the question with this number.
    SendUnsubscribe(u64),
    /// The broker does not answer: the link is dead.
    GiveUp,
    /// Log this.
    Log(HealthLine),
}

/// A line for the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthLine {
    /// Our own process stood still for so long.
    StoodStill(Duration),
    /// The broker answered this late, not for the first time.
    LateAgain(Duration),
    /// The broker answers promptly again.
    PromptAgain,
    /// The broker acknowledges echoes and does not return them.
    EchoLost {
        /// No message came for `offline_after` either, so that no queue can hold the echoes back.
        quiet: bool,
    },
    /// Echoes come back again.
    EchoBack,
}

/// The state behind the rules above.
#[derive(Debug)]
pub struct LinkHealth {
    timing: Timing,
    link: Option<Up>,
    /// Records up to here came over former links, or before this process began.
    ended_upto: Seq,
    proof: Option<LinkProof>,
    doubt: Doubt,
    echo: EchoTrust,
    /// The newest sign of life, and the newest message.
    heard_at: Mono,
    message_at: Mono,
    /// When [`Self::check`] last ran.
    checked_at: Option<Mono>,
    /// The longest standstill since then.
    stalled: Option<Duration>,
    logged_late: bool,
    lines: Vec<HealthLine>,
}

impl LinkHealth {
    /// Starts without a link. The journal holds records up to `appended`.
    #[must_use]
    pub fn new(timing: Timing, appended: Seq) -> Self {
        Self {
            timing,
            link: None,
            ended_upto: appended,
            proof: None,
            doubt: Doubt::default(),
            echo: EchoTrust::default(),
            heard_at: Mono::default(),
            message_at: Mono::default(),
            checked_at: None,
            stalled: None,
            logged_late: false,
            lines: Vec::new(),
        }
    }

    /// Returns the newest proof, if there ever was one.
    #[must_use]
    pub fn proof(&self) -> Option<LinkProof> {
        self.proof
    }

    /// Returns the last record that came over a former link, or before this process began. Later ones came
    /// over the current link.
    #[must_use]
    pub fn ended_upto(&self) -> Seq {
        self.ended_upto
    }

    /// Returns when the broker last gave a sign of life.
    #[must_use]
    pub fn heard_at(&self) -> Mono {
        self.heard_at
    }

    /// Returns how long the broker may take to answer.
    #[must_use]
    pub fn answer_within(&self) -> Duration {
        self.timing.answer_within
    }

    /// Replaces the times, after a change of `offline_after`.
    pub fn set_timing(&mut self, timing: Timing) {
        self.timing = timing;
    }

    /// Starts a link. `nonce` distinguishes its echoes from all others; `None` without a usable echo.
    pub fn link_up(&mut self, now: Mono, nonce: Option<u64>) {
        // Test at once whether echoes come back, not only when a machine falls silent.
        let wanted = nonce.is_some();
        self.link = Some(Up { since: now, nonce, newest: 0, question: None, wanted });
        // Slow answers were those of the former connection.
        self.doubt = Doubt::default();
        self.echo.test_at_once();
    }

    /// Ends the link, if there is one, and its question. The journal holds records up to `appended`.
    pub fn link_down(&mut self, appended: Seq) {
        self.ended_upto = appended;
        self.end();
    }

    /// Notes a message that entered the callback at `began` and was in the journal at `at`.
    pub fn message(&mut self, began: Mono, at: Mono) {
        let took = Some(at.since(began)).filter(|took| *took > PROMPT);
        self.note_standstill(took.max(self.stood_still(at)), at);
        self.sign_of_life(at);
        self.message_at = self.message_at.max(at);
    }

    /// Notes a sign of life other than a message.
    pub fn sign_of_life(&mut self, at: Mono) {
        self.heard_at = self.heard_at.max(at);
        if let Some(question) = self.link.as_mut().and_then(|link| link.question.as_mut()) {
            question.gap = question.gap.max(at.since(question.sign));
            question.sign = question.sign.max(at);
        }
    }

    /// Notes a message on our echo topic; everything that came before it is in the journal, up to `upto`.
    /// Returns whether there is a newer proof.
    pub fn echo(&mut self, payload: &[u8], at: Mono, upto: Seq) -> bool {
        self.note_standstill(self.stood_still(at), at);
        self.sign_of_life(at);
        let Some(link) = &mut self.link else { return false };
        let Some(number) = link.number_of(payload) else { return false };
        let question = link.question.take_if(|question| question.by_echo && question.number == number);
        if self.echo.back() {
            self.lines.push(HealthLine::EchoBack);
        }
        question.is_some_and(|question| self.judge(question, question.gap, at, upto))
    }

    /// Notes the answer to the UNSUBSCRIBE with this number. Returns whether there is a newer proof.
    pub fn unsubscribed(&mut self, number: u64, at: Mono, upto: Seq) -> bool {
        self.note_standstill(self.stood_still(at), at);
        self.sign_of_life(at);
        // The answer does not queue behind messages, so all of its time counts, whatever came in between.
        self.take(number).is_some_and(|question| self.judge(question, at.since(question.asked), at, upto))
    }

    /// Notes that the broker acknowledged the echo with this number.
    pub fn acknowledged(&mut self, number: u64, at: Mono) {
        self.sign_of_life(at);
        let question = self.link.as_mut().and_then(|link| link.question.as_mut());
        if let Some(question) = question.filter(|question| question.number == number) {
            question.acknowledged = true;
        }
    }

    /// Notes that the broker forbids the echo with this number. Returns whether to log that.
    pub fn forbidden(&mut self, number: u64, at: Mono) -> bool {
        self.sign_of_life(at);
        self.ask_once_more(number);
        self.echo.forbid(at)
    }

    /// Notes that the question with this number was not sent.
    pub fn not_asked(&mut self, number: u64) {
        self.ask_once_more(number);
    }

    /// Requests a proof that the link is alive now.
    pub fn request_proof(&mut self) {
        if let Some(link) = &mut self.link {
            link.wanted = true;
        }
    }

    /// Returns the payload of the echo with this number on the current link.
    #[must_use]
    pub fn echo_payload(&self, number: u64) -> Option<String> {
        self.link.as_ref()?.echo_payload(number)
    }

    /// Judges what is overdue and asks what is due; call it every [`CHECK_EVERY`]. `receiving`: a message is
    /// in the callback.
    pub fn check(&mut self, now: Mono, receiving: bool) -> Vec<Effect> {
        self.note_standstill(self.stood_still(now), now);
        self.checked_at = Some(now);
        if let Some(stalled) = self.stalled.take().filter(|stalled| *stalled >= STANDSTILL_LOGGED_MIN) {
            self.lines.push(HealthLine::StoodStill(stalled));
        }
        let mut effects = Vec::new();
        if !receiving {
            self.check_answer(now, &mut effects);
            self.ask(now, &mut effects);
        }
        effects.extend(self.lines.drain(..).map(Effect::Log));
        effects
    }

    fn end(&mut self) {
        (self.link, self.doubt) = (None, Doubt::default());
    }

    /// Ends a question that is answered well enough, or was asked too long ago.
    fn check_answer(&mut self, now: Mono, effects: &mut Vec<Effect>) {
        let Some(question) = self.link.as_ref().and_then(|link| link.question) else { return };
        let (out_for, quiet_for) = (now.since(question.asked), now.since(question.sign));
        let Timing { ask_after, answer_within, .. } = self.timing;
        if !question.proves && question.sign > question.asked {
            // A sign of life is all that this question was for.
            self.take(question.number);
            self.judge(question, question.gap, now, Seq::ZERO);
        } else if !question.acknowledged && quiet_for >= answer_within {
            self.end();
            effects.push(Effect::GiveUp);
        } else if !question.by_echo && out_for >= answer_within {
            self.ask_once_more(question.number);
            self.doubt.put_off(out_for, now);
        } else if question.by_echo
            && ((question.acknowledged && quiet_for >= ask_after) || out_for >= ECHO_MAX)
        {
            self.ask_once_more(question.number);
            let since = self.link.as_ref().map_or(now, |link| link.since);
            let no_message_for = now.since(self.message_at.max(since));
            let unusable = self.echo.lose(question.asked, now, no_message_for, self.timing.offline_after);
            self.lines.extend(unusable.map(|quiet| HealthLine::EchoLost { quiet }));
        }
    }

    /// Asks the broker if a proof is due, or if it has been quiet for too long.
    fn ask(&mut self, now: Mono, effects: &mut Vec<Effect>) {
        let Some(link) = self.link.as_mut().filter(|link| link.question.is_none()) else { return };
        let proves = self.doubt.is_settled(now);
        let proof_is_due = proves && (link.wanted || self.doubt.is_there());
        let is_quiet = now.since(self.heard_at.max(link.since)) >= self.timing.ask_after;
        if !proof_is_due && !is_quiet {
            return;
        }
        link.wanted &= !proves;
        let by_echo = link.nonce.is_some() && self.echo.is_usable();
        let number = link.next_number();
        let (gap, acknowledged) = (Duration::ZERO, false);
        link.question = Some(Question { number, by_echo, asked: now, sign: now, gap, acknowledged, proves });
        effects.push(if by_echo { Effect::SendEcho(number) } else { Effect::SendUnsubscribe(number) });
        if link.nonce.is_some() && self.echo.begin_test(now) {
            effects.push(Effect::SendEcho(link.next_number()));
        }
    }

    /// Judges an answer to `question` that is late by `lateness`. Returns whether it is a newer proof.
    fn judge(&mut self, question: Question, lateness: Duration, at: Mono, upto: Seq) -> bool {
        if !self.doubt.allows(lateness, at) {
            if self.doubt.is_there() && !std::mem::replace(&mut self.logged_late, true) {
                self.lines.push(HealthLine::LateAgain(lateness));
            }
            self.doubt.put_off(lateness, at);
            return false;
        }
        if !question.proves {
            return false;
        }
        self.doubt = Doubt::default();
        if lateness <= PROMPT && std::mem::take(&mut self.logged_late) {
            self.lines.push(HealthLine::PromptAgain);
        }
        self.proof = Some(LinkProof { at: question.asked, upto });
        true
    }

    /// Notes a standstill of our own (LINK-4).
    fn note_standstill(&mut self, still: Option<Duration>, now: Mono) {
        let Some(still) = still else { return };
        let Some(link) = &mut self.link else { return };
        self.stalled = self.stalled.max(Some(still));
        if !self.doubt.allows(still, now) {
            // An answer that is already waiting will still count as a sign of life.
            link.question = None;
            self.doubt.put_off(still, now);
        }
    }

    /// Returns how long before `now` the last check was, if that is too long.
    fn stood_still(&self, now: Mono) -> Option<Duration> {
        self.checked_at.map(|checked_at| now.since(checked_at)).filter(|still| *still > PROMPT)
    }

    fn take(&mut self, number: u64) -> Option<Question> {
        self.link.as_mut()?.question.take_if(|question| question.number == number)
    }

    /// Drops the question with this number and asks again.
    fn ask_once_more(&mut self, number: u64) {
        if self.take(number).is_some() {
            self.request_proof();
        }
    }
}

/// The core, shared by the callback (which notes messages), the mqtt actor (which runs the checks) and the
/// parser (which takes the proof). Each holds the lock only briefly.
#[derive(Debug)]
pub struct SharedLinkHealth(Mutex<LinkHealth>);

impl SharedLinkHealth {
    /// Wraps the core.
    #[must_use]
    pub fn new(health: LinkHealth) -> Self {
        Self(Mutex::new(health))
    }

    /// Locks the core.
    pub fn lock(&self) -> MutexGuard<'_, LinkHealth> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn after(at: Mono, wait: Duration) -> Mono {
    Mono(at.0.saturating_add(Mono::from(wait).0))
}
