//! The message callback, registered with the C library instead of the Rust wrapper's.
//!
//! The wrapper (paho-mqtt 0.14, `AsyncClient::on_message_arrived`) unwraps the topic as UTF-8 without NUL
//! inside `extern "C"`. A message with any other topic aborts the process before our code runs; it is not
//! acknowledged, and comes again at every start. The wrapper also copies topic and payload once more. So
//! messages do not pass through it: `build.rs` has the linker (`--wrap`) redirect the wrapper's call of
//! `MQTTAsync_setMessageArrivedCallback` to `guard::register`, which registers `guard::on_message_arrived`
//! with the C library.
//!
//! A program that is linked without those flags (the fuzz targets, other crates, other systems) never calls
//! `register`, and gets its messages through the wrapper, unguarded. There the C library's own function is a
//! weak symbol that stays null.
//!
//! # Safety
//! - The C library calls back with the registered context, a [`Receiver`]. It lives as long as the client:
//!   the closure that the wrapper's client owns holds it, and the client is destroyed in the C library before
//!   that closure is dropped (`InnerAsyncClient`). `MQTTAsync_destroy` and every callback run under the
//!   library's one lock (paho C 1.3.16, `MQTTAsync.c` and `MQTTAsync_receiveThread`), so no callback comes
//!   later.
//! - `topic` points to `topic_len` bytes, or to a C string if that is 0, and `message` to a message. Both are
//!   ours to free if we return 1 (`MQTTAsync.h`, `MQTTAsync_messageArrived`).
//! - A panic cannot cross into C: it aborts the process at this function's edge, and the message stays
//!   unacknowledged.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::Arc;

use paho_mqtt::AsyncClient;
use paho_mqtt_sys as ffi;

/// A message as the C library hands it over.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// As the broker sent it. MQTT requires UTF-8 without NUL, but nothing has checked that.
    pub topic: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
    /// 0, 1 or 2.
    pub qos: u8,
    /// A retained message: the broker kept it for new subscribers.
    pub retained: bool,
}

struct Receiver {
    deliver: Box<dyn Fn(&Incoming<'_>) + Send + Sync>,
}

/// Delivers every message of the client to `deliver`, on the library's receive thread, before it is
/// acknowledged. Returns `false` if this program is linked without the guard against invalid topics.
pub(super) fn set_message_callback(
    client: &AsyncClient,
    deliver: impl Fn(&Incoming<'_>) + Send + Sync + 'static,
) -> bool {
    let receiver = Arc::new(Receiver { deliver: Box::new(deliver) });
    guard::offer(&receiver);
    client.set_message_callback(move |_, message| {
        if let Some(message) = message {
            (receiver.deliver)(&Incoming {
                topic: message.topic().as_bytes(),
                payload: message.payload(),
                qos: u8::try_from(message.qos() as i32).unwrap_or(u8::MAX),
                retained: message.retained(),
            });
        }
    });
    guard::is_taken()
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod guard {
    pub(super) fn offer(_: &std::sync::Arc<super::Receiver>) {}

    pub(super) fn is_taken() -> bool {
        false
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod guard {
    use std::cell::Cell;
    use std::ptr;

    use super::{Arc, CStr, Incoming, Receiver, c_char, c_int, c_void, ffi};

    type Callback = ffi::MQTTAsync_messageArrived;
    type Set = unsafe extern "C" fn(ffi::MQTTAsync, *mut c_void, Callback) -> c_int;

    thread_local! {
        /// The receiver for the next registration that the wrapper makes on this thread.
        static OFFERED: Cell<*const Receiver> = const { Cell::new(ptr::null()) };
    }

    pub(super) fn offer(receiver: &Arc<Receiver>) {
        OFFERED.set(Arc::as_ptr(receiver));
    }

    pub(super) fn is_taken() -> bool {
        OFFERED.replace(ptr::null()).is_null()
    }

    // With the flags the linker resolves `__real_…` to the library's own function.
    core::arch::global_asm!(
        ".weak __real_MQTTAsync_setMessageArrivedCallback",
        ".pushsection .data.rel.ro.andon_set_message_arrived, \"aw\"",
        ".balign 8",
        ".globl andon_set_message_arrived",
        ".hidden andon_set_message_arrived",
        "andon_set_message_arrived:",
        ".dc.a __real_MQTTAsync_setMessageArrivedCallback",
        ".popsection",
    );

    unsafe extern "C" {
        static andon_set_message_arrived: Option<Set>;
    }

    /// Replaces every call of `MQTTAsync_setMessageArrivedCallback` in this program.
    ///
    /// # Safety
    /// As of the function that it stands for.
    #[unsafe(export_name = "__wrap_MQTTAsync_setMessageArrivedCallback")]
    unsafe extern "C" fn register(client: ffi::MQTTAsync, context: *mut c_void, callback: Callback) -> c_int {
        // SAFETY: the linker and loader write this word; nothing changes it afterwards.
        let Some(set) = (unsafe { andon_set_message_arrived }) else { return ffi::MQTTASYNC_FAILURE };
        let receiver = OFFERED.replace(ptr::null());
        // SAFETY: the arguments are the caller's, or a context that outlives the client (see the module).
        unsafe {
            if receiver.is_null() {
                set(client, context, callback)
            } else {
                set(client, receiver.cast_mut().cast(), Some(on_message_arrived))
            }
        }
    }

    /// # Safety
    /// Called by the C library with the context of `register`; see the module.
    unsafe extern "C" fn on_message_arrived(
        context: *mut c_void,
        topic: *mut c_char,
        topic_len: c_int,
        mut message: *mut ffi::MQTTAsync_message,
    ) -> c_int {
        // SAFETY: see the module. The borrowed memory is freed only after its last use.
        unsafe {
            let receiver = &*context.cast_const().cast::<Receiver>();
            let arrived = &*message;
            let topic_bytes = match topic_len {
                0 => CStr::from_ptr(topic).to_bytes(),
                len => bytes(topic.cast(), len),
            };
            (receiver.deliver)(&Incoming {
                topic: topic_bytes,
                payload: bytes(arrived.payload, arrived.payloadlen),
                qos: u8::try_from(arrived.qos).unwrap_or(u8::MAX),
                retained: arrived.retained != 0,
            });
            ffi::MQTTAsync_freeMessage(&raw mut message);
            ffi::MQTTAsync_free(topic.cast());
        }
        1 // Accepted: the library acknowledges it.
    }

    /// # Safety
    /// `start` is null, or points to `len` bytes that live as long as `'a`.
    unsafe fn bytes<'a>(start: *const c_void, len: c_int) -> &'a [u8] {
        match usize::try_from(len) {
            // SAFETY: as above.
            Ok(len) if !start.is_null() => unsafe { std::slice::from_raw_parts(start.cast(), len) },
            _ => &[],
        }
    }
}
