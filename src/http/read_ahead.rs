//! How far a connection is read ahead of its answers.
//!
//! A client may send further requests before it has its answer. The HTTP service takes all that has come, up to 128 KiB, at
//! once: thousands of requests, each of which takes two hundred times its bytes until its turn comes, all of them answered
//! before another connection has its turn, into a buffer without a bound if the client reads nothing. So it gets little:
//! a piece in each turn, and nothing while a request is in flight, but its body, or while the client does not read.
//!
//! Meanwhile one piece is taken from the socket and held here, so that a client that goes away is noticed at once.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::ReadBuf;

use super::BODY_BYTES_MAX;

/// Bytes that a connection hands over in one turn: about one request of a browser, or forty of the smallest.
const PIECE_BYTES: usize = 1024;

/// Closed while a request of the connection is in flight. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Gate(Arc<Mutex<Passage>>);

#[derive(Default)]
struct Passage {
    in_flight: usize,
    /// What the body of the request in flight may still take.
    body: usize,
    /// Who waits until it opens.
    waiting: Option<Waker>,
}

impl Gate {
    /// A request is in flight, with a body if it `has_body`.
    pub(super) fn begin(&self, has_body: bool) {
        let mut passage = self.lock();
        passage.in_flight += 1;
        passage.body = if has_body { BODY_BYTES_MAX } else { 0 };
    }

    /// A request is no longer in flight.
    pub(super) fn end(&self) {
        let mut passage = self.lock();
        passage.in_flight = passage.in_flight.saturating_sub(1);
        passage.wake();
    }

    fn lock(&self) -> MutexGuard<'_, Passage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Passage {
    /// Takes as many of `bytes` as may pass.
    fn take(&mut self, bytes: usize) -> usize {
        if self.in_flight == 0 {
            return bytes;
        }
        let taken = bytes.min(self.body);
        self.body -= taken;
        taken
    }

    fn wake(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }
}

/// What a connection has read from its socket and not handed over.
pub(super) struct ReadAhead {
    gate: Gate,
    held: Vec<u8>,
    /// The service asks until there is nothing more: then the turn is over.
    has_had_its_turn: bool,
    /// The client does not take what is sent to it.
    is_stuck: bool,
}

impl ReadAhead {
    pub(super) fn new(gate: Gate) -> Self {
        Self { gate, held: Vec::new(), has_had_its_turn: false, is_stuck: false }
    }

    /// Hands over a piece, if it may pass; `read` reads from the socket.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
        read: impl FnOnce(&mut Context<'_>, &mut ReadBuf<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.has_had_its_turn) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.held.is_empty() {
            let mut piece = [0; PIECE_BYTES];
            let mut piece = ReadBuf::new(&mut piece);
            ready!(read(context, &mut piece))?;
            if piece.filled().is_empty() {
                return Poll::Ready(Ok(())); // The client has closed its side.
            }
            self.held.extend_from_slice(piece.filled());
        }
        let mut passage = self.gate.lock();
        let passes = if self.is_stuck { 0 } else { passage.take(self.held.len().min(to.remaining())) };
        if passes == 0 {
            passage.waiting = Some(context.waker().clone());
            return Poll::Pending;
        }
        to.put_slice(&self.held[..passes]);
        self.held.drain(..passes);
        self.has_had_its_turn = true;
        Poll::Ready(Ok(()))
    }

    /// Notes whether the client takes what is sent to it.
    pub(super) fn observe_write<T>(&mut self, written: &Poll<T>) {
        let was_stuck = std::mem::replace(&mut self.is_stuck, written.is_pending());
        if was_stuck && !self.is_stuck {
            self.gate.lock().wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A connection whose client sends without end.
    struct Flood {
        ahead: ReadAhead,
        gate: Gate,
        read: usize,
        woken: Arc<Woken>,
    }

    impl Flood {
        fn new() -> Self {
            let gate = Gate::default();
            Self { ahead: ReadAhead::new(gate.clone()), gate, read: 0, woken: Arc::default() }
        }

        /// Asks until there is nothing more, as the HTTP service does; returns what came.
        fn turn(&mut self) -> usize {
            let waker = Arc::clone(&self.woken).into();
            let mut context = Context::from_waker(&waker);
            let mut bytes = vec![0; 128 * 1024];
            let mut to = ReadBuf::new(&mut bytes);
            let read = &mut self.read;
            while let Poll::Ready(result) = self.ahead.poll_read(&mut context, &mut to, |_, piece| {
                *read += piece.remaining();
                piece.put_slice(&vec![b'x'; piece.remaining()]);
                Poll::Ready(Ok(()))
            }) {
                result.unwrap();
            }
            to.filled().len()
        }

        fn woken(&self) -> usize {
            self.woken.0.swap(0, Ordering::SeqCst)
        }
    }

    /// Proves HTTP-2.
    #[test]
    fn each_turn_takes_one_piece_and_asks_for_another_turn() {
        let mut flood = Flood::new();
        for _ in 0..3 {
            assert_eq!((flood.turn(), flood.woken()), (PIECE_BYTES, 1));
        }
        assert_eq!(flood.read, 3 * PIECE_BYTES);
    }

    /// Proves HTTP-2.
    #[test]
    fn nothing_passes_while_a_request_is_in_flight_and_its_end_wakes_the_connection() {
        let mut flood = Flood::new();
        flood.gate.begin(false);
        for _ in 0..100 {
            assert_eq!((flood.turn(), flood.woken()), (0, 0));
        }
        assert_eq!(flood.read, PIECE_BYTES, "one piece is held");
        flood.gate.end();
        assert_eq!((flood.woken(), flood.turn(), flood.read), (1, PIECE_BYTES, PIECE_BYTES));
    }

    #[test]
    fn the_body_of_the_request_in_flight_passes_as_far_as_one_may_be_long() {
        let mut flood = Flood::new();
        flood.gate.begin(true);
        let passed: usize = (0..100).map(|_| flood.turn()).sum();
        assert_eq!(passed, BODY_BYTES_MAX);
        flood.gate.end();
        flood.gate.begin(false);
        assert_eq!(flood.turn(), 0);
    }

    /// Proves HTTP-2.
    #[test]
    fn nothing_passes_while_the_client_does_not_read() {
        let mut flood = Flood::new();
        flood.ahead.observe_write::<()>(&Poll::Pending);
        assert_eq!((flood.turn(), flood.woken()), (0, 0));
        flood.ahead.observe_write(&Poll::Ready(()));
        assert_eq!((flood.woken(), flood.turn()), (1, PIECE_BYTES));
    }

    #[test]
    fn a_client_that_goes_away_is_noticed_while_its_request_is_in_flight() {
        let gate = Gate::default();
        let mut ahead = ReadAhead::new(gate.clone());
        gate.begin(false);
        let (mut bytes, mut context) = ([0; 8], Context::from_waker(Waker::noop()));
        let mut to = ReadBuf::new(&mut bytes);
        assert!(ahead.poll_read(&mut context, &mut to, |_, _| Poll::Pending).is_pending());
        let end = ahead.poll_read(&mut context, &mut to, |_, _| Poll::Ready(Ok(())));
        assert!(matches!(end, Poll::Ready(Ok(()))) && to.filled().is_empty());
    }
}
