//! Whether the link is alive, and up to when nothing on it can have escaped us. Pure: it reads no clock and sends nothing.
//!
//! It is told of every message, answer and echo that comes, of the link's beginning and end, and looks around ten times a second
//! ([`LinkHealth::look`]). It says what to ask the broker, what is proven, and when the link is dead.
//!
//! Rules, cited by tests:
//! - LINK-1 The proof is our echo: a message of our own that comes back in the callback, behind everything that the broker had queued
//!   for us when it read it. Whoever was silent until we *sent* the echo was silent indeed. One echo is out at a time.
//!   Without a usable echo the answer to an UNSUBSCRIBE takes its place; it overtakes what is queued.
//! - LINK-2 Every other word of the broker is a sign of life and proves nothing.
//! - LINK-3 A broker that gave no sign for longer than [`PROMPT`] while it was asked was frozen, or had no time. What devices said
//!   meanwhile waits in *their* connections, and it may read ours first. So that echo is no proof. The broker gets as long as
//!   it was away, within 2 and 60 s, and then a second echo has to be prompt. One that is always as slow is
//!   believed 8 s later all the same: silence must be believed some day.
//! - LINK-4 A standstill of our own (the process was stopped, or a message in the callback waited for the disk) is treated alike:
//!   whatever stopped us may have stopped others. An echo that is out then is no proof.
//! - LINK-5 A broker that gave no sign for `ask_after` is asked, and one that gives none for `answer_within` after that is dead: within
//!   one and a half keep-alives. The library alone takes up to two and a half: it pings after one keep-alive of silence and waits
//!   one and a half for the answer (paho C 1.3.16, `MQTTProtocol_keepalive`). We ask long before a machine could fall silent,
//!   so that the answer tells how long the broker was frozen. Nobody is judged while a message is in the callback: the
//!   broker has just spoken, and it is the disk that is slow.
//! - LINK-6 An echo that does not come back ends no link. It is lost once the broker has acknowledged it and then said nothing more
//!   for `ask_after`, or after [`ECHO_MAX`], and asked for again. After three in a row the echo counts as unusable, as soon
//!   as no message has come for `offline_after`, or they have been lost for three minutes (an hour, if one ever came back). A test
//!   echo a minute finds out when that is over.

mod echo_trust;
mod grace;
#[cfg(test)]
mod tests;
mod timing;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::echo_trust::EchoTrust;
use self::grace::Doubt;
pub use self::timing::Timing;
use crate::clock::Mono;
use crate::domain::Seq;

/// An answer within this is prompt; neither our own clock stands still for longer, nor one message takes longer, while all is
/// well.
const PROMPT: Duration = Duration::from_millis(500);
/// A standstill of our own that lasted as long as this is worth a line.
const STANDSTILL_TOLD_MIN: Duration = Duration::from_secs(3);
/// How often [`LinkHealth::look`] is to be called.
pub const LOOK_EVERY: Duration = Duration::from_millis(100);
/// An echo that is queued behind messages is waited for as long as this before another is sent.
const ECHO_MAX: Duration = Duration::from_secs(60);

/// The newest proof that silence was silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkProof {
    /// At this instant the link was alive.
    pub at: Mono,
    /// Everything that was on its way to us at that instant is in the journal up to here.
    pub upto: Seq,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Publish the echo of this number, see [`LinkHealth::echo_payload`].
    SendEcho(u64),
    /// Send an UNSUBSCRIBE, as the question of this number.
    SendUnsubscribe(u64),
    /// The broker does not answer: the link is dead.
    GiveUp,
    /// Tell the operator.
    Say(Saying),
}

/// News for the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saying {
    /// We stood still for so long.
    StoodStill(Duration),
    /// The broker answered late by so much, not for the first time.
    LateAgain(Duration),
    /// It answers promptly again.
    PromptAgain,
    /// Echoes are acknowledged and do not come back; `quiet` if nothing else came either.
    EchoLost {
        /// No message came for `offline_after`: there is no queue in which they could wait.
        quiet: bool,
    },
    /// They come back again.
    EchoBack,
}

/// The state; see the rules above.
#[derive(Debug)]
pub struct LinkHealth {
    timing: Timing,
    link: Option<Up>,
    /// Records up to here came over links that are over, or before this process began.
    ended_upto: Seq,
    proof: Option<LinkProof>,
    doubt: Doubt,
    echo: EchoTrust,
    /// The newest sign of life, and the newest message.
    heard_at: Mono,
    message_at: Mono,
    /// When [`Self::look`] was last called.
    running_at: Option<Mono>,
    /// The longest standstill since then.
    stalled: Option<Duration>,
    late_told: bool,
    sayings: Vec<Saying>,
}

/// The link that is up.
#[derive(Debug)]
struct Up {
    since: Mono,
    /// Tells our echoes on this link from all others. `None`: there can be none.
    nonce: Option<u64>,
    /// The newest number given to a question.
    newest: u64,
    question: Option<Question>,
    /// Somebody waits for a proof.
    wanted: bool,
}

/// What the broker has been asked.
#[derive(Debug, Clone, Copy)]
struct Question {
    number: u64,
    by_echo: bool,
    asked: Mono,
    /// The newest sign of life since then.
    sign: Mono,
    /// The longest time without one.
    gap: Duration,
    acknowledged: bool,
    /// The answer may be a proof: the time to settle was over when it was asked.
    proves: bool,
}

impl LinkHealth {
    /// Before the first link; the journal holds records up to `appended`.
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
            running_at: None,
            stalled: None,
            late_told: false,
            sayings: Vec::new(),
        }
    }

    /// The newest proof, if there ever was one.
    #[must_use]
    pub fn proof(&self) -> Option<LinkProof> {
        self.proof
    }

    /// Records up to here came over links that are over, or before this process began; later ones over the link that is up, or is
    /// coming up.
    #[must_use]
    pub fn ended_upto(&self) -> Seq {
        self.ended_upto
    }

    /// When the broker last gave a sign of life.
    #[must_use]
    pub fn heard_at(&self) -> Mono {
        self.heard_at
    }

    /// How long it may take to answer.
    #[must_use]
    pub fn answer_within(&self) -> Duration {
        self.timing.answer_within
    }

    /// The link is up. `nonce` tells its echoes from all others; `None` if there can be no usable ones.
    pub fn link_up(&mut self, now: Mono, nonce: Option<u64>) {
        // Whether echoes come back is found out at once, not when a machine falls silent.
        let wanted = nonce.is_some();
        self.link = Some(Up { since: now, nonce, newest: 0, question: None, wanted });
        // Whatever was slow was the connection before.
        self.doubt = Doubt::default();
        self.echo.test_at_once();
    }

    /// The connection is gone, whether or not it was up, and with it what was asked; the journal holds records up to `appended`.
    pub fn link_down(&mut self, appended: Seq) {
        self.ended_upto = appended;
        self.end();
    }

    /// A message that came into the callback at `began` is journaled at `at`.
    pub fn message(&mut self, began: Mono, at: Mono) {
        let took = Some(lasted(began, at)).filter(|took| *took > PROMPT);
        self.note_standstill(took.max(self.stood_still(at)), at);
        self.sign_of_life(at);
        self.message_at = self.message_at.max(at);
    }

    /// The broker said something that is no message.
    pub fn sign_of_life(&mut self, at: Mono) {
        self.heard_at = self.heard_at.max(at);
        if let Some(question) = self.link.as_mut().and_then(|link| link.question.as_mut()) {
            question.gap = question.gap.max(lasted(question.sign, at));
            question.sign = question.sign.max(at);
        }
    }

    /// A message came in on our echo topic; everything that came before it is journaled up to `upto`. Whether there is a newer
    /// proof.
    pub fn echo(&mut self, payload: &[u8], at: Mono, upto: Seq) -> bool {
        self.note_standstill(self.stood_still(at), at);
        self.sign_of_life(at);
        let Some(link) = &mut self.link else { return false };
        let Some(number) = link.number_of(payload) else { return false };
        let question = link.question.take_if(|question| question.by_echo && question.number == number);
        if self.echo.back() {
            self.sayings.push(Saying::EchoBack);
        }
        question.is_some_and(|question| self.judge(question, question.gap, at, upto))
    }

    /// The UNSUBSCRIBE of this number is answered. Whether there is a newer proof.
    pub fn unsubscribed(&mut self, number: u64, at: Mono, upto: Seq) -> bool {
        self.note_standstill(self.stood_still(at), at);
        self.sign_of_life(at);
        // What came in between did not wait for the answer, nor the answer for it: all the time counts.
        self.take(number).is_some_and(|question| self.judge(question, lasted(question.asked, at), at, upto))
    }

    /// The broker has acknowledged the echo of this number.
    pub fn acknowledged(&mut self, number: u64, at: Mono) {
        self.sign_of_life(at);
        let question = self.link.as_mut().and_then(|link| link.question.as_mut());
        if let Some(question) = question.filter(|question| question.number == number) {
            question.acknowledged = true;
        }
    }

    /// The broker forbids the echo of this number. Whether that is news.
    pub fn forbidden(&mut self, number: u64, at: Mono) -> bool {
        self.sign_of_life(at);
        self.want_again(number);
        self.echo.forbid(at)
    }

    /// The question of this number could not be asked.
    pub fn not_asked(&mut self, number: u64) {
        self.want_again(number);
    }

    /// A proof is wanted that the link is alive now.
    pub fn want(&mut self) {
        if let Some(link) = &mut self.link {
            link.wanted = true;
        }
    }

    /// The payload of the echo of this number on the link that is up.
    #[must_use]
    pub fn echo_payload(&self, number: u64) -> Option<String> {
        let nonce = self.link.as_ref()?.nonce?;
        Some(format!("{nonce:016x}-{number}"))
    }

    /// Looks around, every [`LOOK_EVERY`]. `receiving`: a message is in the callback.
    pub fn look(&mut self, now: Mono, receiving: bool) -> Vec<Effect> {
        self.note_standstill(self.stood_still(now), now);
        self.running_at = Some(now);
        if let Some(stalled) = self.stalled.take().filter(|stalled| *stalled >= STANDSTILL_TOLD_MIN) {
            self.sayings.push(Saying::StoodStill(stalled));
        }
        let mut effects = Vec::new();
        if !receiving {
            self.look_for_answer(now, &mut effects);
            self.ask(now, &mut effects);
        }
        effects.extend(self.sayings.drain(..).map(Effect::Say));
        effects
    }

    fn end(&mut self) {
        (self.link, self.doubt) = (None, Doubt::default());
    }

    /// Gives up what was asked too long ago.
    fn look_for_answer(&mut self, now: Mono, effects: &mut Vec<Effect>) {
        let Some(question) = self.link.as_ref().and_then(|link| link.question) else { return };
        let (out_for, quiet_for) = (lasted(question.asked, now), lasted(question.sign, now));
        let Timing { ask_after, answer_within, .. } = self.timing;
        if !question.proves && question.sign > question.asked {
            // It is there, which is all that was asked.
            self.take(question.number);
            self.judge(question, question.gap, now, Seq::ZERO);
        } else if !question.acknowledged && quiet_for >= answer_within {
            self.end();
            effects.push(Effect::GiveUp);
        } else if !question.by_echo && out_for >= answer_within {
            self.want_again(question.number);
            self.doubt.put_off(out_for, now);
        } else if question.by_echo
            && ((question.acknowledged && quiet_for >= ask_after) || out_for >= ECHO_MAX)
        {
            self.want_again(question.number);
            let since = self.link.as_ref().map_or(now, |link| link.since);
            let no_message_for = lasted(self.message_at.max(since), now);
            let unusable = self.echo.lose(question.asked, now, no_message_for, self.timing.offline_after);
            self.sayings.extend(unusable.map(|quiet| Saying::EchoLost { quiet }));
        }
    }

    /// Asks if somebody waits for a proof, or to hear whether the broker is there.
    fn ask(&mut self, now: Mono, effects: &mut Vec<Effect>) {
        let Some(link) = self.link.as_mut().filter(|link| link.question.is_none()) else { return };
        let proves = self.doubt.is_settled(now);
        let proof_is_due = proves && (link.wanted || self.doubt.is_there());
        let is_quiet = lasted(self.heard_at.max(link.since), now) >= self.timing.ask_after;
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

    /// Whether the answer to `question`, late by `lateness`, is a newer proof.
    fn judge(&mut self, question: Question, lateness: Duration, at: Mono, upto: Seq) -> bool {
        if !self.doubt.allows(lateness, at) {
            if self.doubt.is_there() && !std::mem::replace(&mut self.late_told, true) {
                self.sayings.push(Saying::LateAgain(lateness));
            }
            self.doubt.put_off(lateness, at);
            return false;
        }
        if !question.proves {
            return false;
        }
        self.doubt = Doubt::default();
        if lateness <= PROMPT && std::mem::take(&mut self.late_told) {
            self.sayings.push(Saying::PromptAgain);
        }
        self.proof = Some(LinkProof { at: question.asked, upto });
        true
    }

    /// LINK-4
    fn note_standstill(&mut self, still: Option<Duration>, now: Mono) {
        let Some(still) = still else { return };
        let Some(link) = &mut self.link else { return };
        self.stalled = self.stalled.max(Some(still));
        if !self.doubt.allows(still, now) {
            // If its answer waits already, that is a sign of life when it is read.
            link.question = None;
            self.doubt.put_off(still, now);
        }
    }

    /// For how long, up to `now`, we did not look around, if for long.
    fn stood_still(&self, now: Mono) -> Option<Duration> {
        self.running_at.map(|running_at| lasted(running_at, now)).filter(|still| *still > PROMPT)
    }

    fn take(&mut self, number: u64) -> Option<Question> {
        self.link.as_mut()?.question.take_if(|question| question.number == number)
    }

    /// The question of this number has no answer.
    fn want_again(&mut self, number: u64) {
        if self.take(number).is_some() {
            self.want();
        }
    }
}

impl Up {
    fn next_number(&mut self) -> u64 {
        self.newest += 1;
        self.newest
    }

    /// The number of an echo of this link; a foreign or an old one has none.
    fn number_of(&self, payload: &[u8]) -> Option<u64> {
        let (nonce, number) = std::str::from_utf8(payload).ok()?.split_once('-')?;
        let nonce = u64::from_str_radix(nonce, 16).ok().filter(|nonce| Some(*nonce) == self.nonce);
        nonce.and(number.parse().ok())
    }
}

/// The core, shared by the callback, which tells it of what comes, the mqtt actor, which looks, and the parser, which takes the
/// proof. Each holds it for a moment.
#[derive(Debug)]
pub struct SharedLinkHealth(Mutex<LinkHealth>);

impl SharedLinkHealth {
    /// Shares it.
    #[must_use]
    pub fn new(health: LinkHealth) -> Self {
        Self(Mutex::new(health))
    }

    /// Holds it.
    pub fn lock(&self) -> MutexGuard<'_, LinkHealth> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lasted(from: Mono, to: Mono) -> Duration {
    Duration::from_micros(to.0.saturating_sub(from.0))
}

fn after(at: Mono, wait: Duration) -> Mono {
    Mono(at.0.saturating_add(Mono::from(wait).0))
}
