//! TLS: its records pass through the same buffers. OpenSSL is a shared library, so its own reads and
//! writes do not come here; the connection gets a BIO of ours in their place.
//!
//! # Safety
//! - OpenSSL calls a BIO's functions with that BIO, and with buffers that are its for the call. The
//!   descriptor is kept where a BIO keeps its data; nothing is owned, and nothing has to be freed with
//!   it.
//! - The method is made once and never changed or freed.

use std::os::raw::{c_char, c_int, c_long, c_void};
use std::ptr;
use std::sync::OnceLock;

use openssl_sys as ffi;

use super::interpose::{__wrap_recv, __wrap_writev};
use super::kernel::{Errno, Fd};

const BIO_TYPE_DESCRIPTOR: c_int = 0x0100;
const BIO_TYPE_SOURCE_SINK: c_int = 0x0400;
const BIO_FLAGS_RETRY: c_int = 0x0f;
const BIO_FLAGS_IN_EOF: c_int = 0x800;
const BIO_CTRL_EOF: c_int = 2;
const BIO_CTRL_FLUSH: c_int = 11;
const BIO_CTRL_DUP: c_int = 12;
const BIO_C_GET_FD: c_int = 105;

unsafe extern "C" {
    fn BIO_get_new_index() -> c_int;
    fn BIO_test_flags(bio: *const ffi::BIO, flags: c_int) -> c_int;
}

struct Method(*mut ffi::BIO_METHOD);
// SAFETY: never changed once it is made.
unsafe impl Send for Method {}
// SAFETY: as above.
unsafe impl Sync for Method {}

/// # Safety
/// As `SSL_set_fd`.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_SSL_set_fd(ssl: *mut ffi::SSL, fd: Fd) -> c_int {
    static METHOD: OnceLock<Method> = OnceLock::new();
    let Method(method) = METHOD.get_or_init(make_method);
    if method.is_null() {
        return 0;
    }
    // SAFETY: the method is whole; the connection takes the BIO over, for both directions.
    unsafe {
        let bio = ffi::BIO_new(*method);
        if bio.is_null() {
            return 0;
        }
        ffi::BIO_set_data(bio, fd as usize as *mut c_void);
        ffi::SSL_set_bio(ssl, bio, bio);
    }
    1
}

fn make_method() -> Method {
    // SAFETY: the name is a constant, and the functions have the signatures that OpenSSL calls.
    unsafe {
        let kind = BIO_get_new_index() | BIO_TYPE_SOURCE_SINK | BIO_TYPE_DESCRIPTOR;
        let method = ffi::BIO_meth_new(kind, c"buffered socket".as_ptr());
        if !method.is_null() {
            ffi::BIO_meth_set_create__fixed_rust(method, Some(create));
            ffi::BIO_meth_set_read__fixed_rust(method, Some(read));
            ffi::BIO_meth_set_write__fixed_rust(method, Some(write));
            ffi::BIO_meth_set_ctrl__fixed_rust(method, Some(ctrl));
        }
        Method(method)
    }
}

/// As OpenSSL's own BIO of a socket has it (`BIO_sock_non_fatal_error`).
fn is_temporary() -> bool {
    matches!(
        Errno::last().0,
        libc::EAGAIN | libc::ENOTCONN | libc::EINTR | libc::EPROTO | libc::EINPROGRESS | libc::EALREADY
    )
}

unsafe fn fd_of(bio: *mut ffi::BIO) -> Fd {
    // SAFETY: a BIO of ours; see the module.
    unsafe { ffi::BIO_get_data(bio) as usize as Fd }
}

unsafe extern "C" fn create(bio: *mut ffi::BIO) -> c_int {
    // SAFETY: see the module.
    unsafe { ffi::BIO_set_init(bio, 1) };
    1
}

unsafe extern "C" fn read(bio: *mut ffi::BIO, into: *mut c_char, len: c_int) -> c_int {
    let Ok(len @ 1..) = usize::try_from(len) else { return 0 };
    // SAFETY: see the module.
    unsafe {
        ffi::BIO_clear_flags(bio, BIO_FLAGS_RETRY);
        let read = __wrap_recv(fd_of(bio), into.cast(), len, 0);
        if read == 0 {
            ffi::BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
        } else if read < 0 && is_temporary() {
            ffi::BIO_set_retry_read(bio);
        }
        read as c_int
    }
}

unsafe extern "C" fn write(bio: *mut ffi::BIO, from: *const c_char, len: c_int) -> c_int {
    let Ok(len @ 1..) = usize::try_from(len) else { return 0 };
    let part = libc::iovec { iov_base: from.cast_mut().cast(), iov_len: len };
    // SAFETY: see the module; nothing is written through `part`.
    unsafe {
        ffi::BIO_clear_flags(bio, BIO_FLAGS_RETRY);
        let written = __wrap_writev(fd_of(bio), ptr::from_ref(&part), 1);
        if written < 0 && is_temporary() {
            ffi::BIO_set_retry_write(bio);
        }
        written as c_int
    }
}

unsafe extern "C" fn ctrl(bio: *mut ffi::BIO, what: c_int, _: c_long, pointer: *mut c_void) -> c_long {
    match what {
        // Nothing is kept here.
        BIO_CTRL_FLUSH | BIO_CTRL_DUP => 1,
        // SAFETY: see the module.
        BIO_CTRL_EOF => unsafe { (BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0).into() },
        BIO_C_GET_FD => {
            // SAFETY: see the module.
            let fd = unsafe { fd_of(bio) };
            if !pointer.is_null() {
                // SAFETY: for this question it points to an int, or is null (`BIO_get_fd`).
                unsafe { *pointer.cast::<c_int>() = fd };
            }
            fd.into()
        }
        _ => 0,
    }
}
