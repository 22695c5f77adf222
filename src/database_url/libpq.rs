//! libpq's own parser of URLs, which does not connect.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::ptr;

use pq_sys::{PQconninfoFree, PQconninfoOption, PQconninfoParse, PQfreemem};

/// Returns each parameter that this libpq knows, with what `url` sets it to; `None` if libpq cannot read it. libpq's
/// complaint stays here: it quotes pieces of the URL, and so of the password.
pub(super) fn parse(url: &str) -> Option<BTreeMap<String, Option<String>>> {
    let url = CString::new(url).ok()?;
    let mut complaint: *mut c_char = ptr::null_mut();
    // SAFETY: `url` ends with NUL and outlives the call; libpq writes either a list or a complaint.
    let options = unsafe { PQconninfoParse(url.as_ptr(), &raw mut complaint) };
    // SAFETY: the complaint is libpq's, or null, which is allowed.
    unsafe { PQfreemem(complaint.cast()) };
    if options.is_null() {
        return None;
    }
    // SAFETY: `options` is the list that libpq just returned; it is read, then freed once.
    unsafe {
        let parameters = read(options);
        PQconninfoFree(options);
        Some(parameters)
    }
}

/// # Safety
/// `options` is a list that libpq returned: its last entry has no keyword, and its texts end with NUL.
unsafe fn read(options: *const PQconninfoOption) -> BTreeMap<String, Option<String>> {
    let text = |start: *const c_char| {
        // SAFETY: the caller promises a text that ends with NUL.
        (!start.is_null()).then(|| unsafe { CStr::from_ptr(start) }.to_string_lossy().into_owned())
    };
    let mut parameters = BTreeMap::new();
    let mut option = options;
    // SAFETY: the loop ends at the entry without keyword, which is the last one.
    while let Some(keyword) = text(unsafe { (*option).keyword }) {
        // SAFETY: an entry with a keyword is complete, and another one follows it.
        parameters.insert(keyword, text(unsafe { (*option).val }));
        option = unsafe { option.add(1) };
    }
    parameters
}
