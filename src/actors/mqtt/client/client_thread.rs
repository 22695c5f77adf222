//! The thread that calls the client library (MQTT-9).
//!
//! Every call waits for the library's one lock, and its receive thread holds that lock while a message is in
//! our callback, for as long as the disk stalls. So no actor calls the library. This thread makes all calls
//! of the process, in the order in which they were posted.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

use tokio::sync::oneshot;

type Call = Box<dyn FnOnce() + Send>;

/// Makes `call` after all earlier calls. Returns `None` if it panicked.
pub(super) fn call<T: Send + 'static>(
    call: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = Option<T>> {
    let (reply, answer) = oneshot::channel();
    post(move || {
        // The receiver may be gone; dropping the answer then cleans up.
        drop(reply.send(call()));
    });
    async { answer.await.ok() }
}

/// Makes `call` after all earlier calls, without an answer.
pub(super) fn post(call: impl FnOnce() + Send + 'static) {
    static CALLS: OnceLock<Option<Sender<Call>>> = OnceLock::new();
    match CALLS.get_or_init(start) {
        Some(calls) => {
            // The thread never ends: it survives a panic, and the static keeps the channel open.
            let _taken = calls.send(Box::new(call));
        }
        // The system has no thread left: the actor has to wait for the lock itself.
        None => call(),
    }
}

fn start() -> Option<Sender<Call>> {
    #[expect(clippy::disallowed_methods, reason = "a full queue would make an actor wait for the library")]
    let (calls, queue) = channel::<Call>();
    let calling = move || {
        for call in queue {
            // The panic hook logs it, and the caller gets no answer.
            let _panicked = catch_unwind(AssertUnwindSafe(call));
        }
    };
    std::thread::Builder::new().name("mqtt-library".to_owned()).spawn(calling).ok().map(|_thread| calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves MQTT-9.
    #[test]
    fn calls_are_made_in_order_and_a_panic_ends_only_its_own() {
        let (out, calls) = channel();
        for number in 0..10 {
            let out = out.clone();
            post(move || out.send(number).expect("the test listens"));
        }
        let system = actix::System::new();
        assert_eq!(system.block_on(call(|| -> u8 { panic!("on purpose") })), None);
        assert_eq!(system.block_on(call(|| 7)), Some(7));
        assert_eq!(calls.try_iter().collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    }
}
