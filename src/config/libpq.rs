//! What libpq itself says to a PostgreSQL URL, without connecting: its own parser decides.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::ptr;

use pq_sys::{PQconninfoFree, PQconninfoOption, PQconninfoParse, PQfreemem};

/// Each parameter that this libpq knows, with what `url` sets it to; `None` if libpq cannot read it. Its words quote pieces of
/// the URL, and with them of the password, so that they are not handed out.
pub(super) fn parse(url: &str) -> Option<BTreeMap<String, Option<String>>> {
    let url = CString::new(url).ok()?;
    let mut complaint: *mut c_char = ptr::null_mut();
    // SAFETY: `url` ends with NUL and outlives the call; libpq writes either a list or a complaint.
    let options = unsafe { PQconninfoParse(url.as_ptr(), &raw mut complaint) };
    // SAFETY: the complaint is libpq's, or null, which it takes too.
    unsafe { PQfreemem(complaint.cast()) };
    if options.is_null() {
        return None;
    }
    // SAFETY: `options` is libpq's list of this call, read and then freed once.
    unsafe {
        let parameters = read(options);
        PQconninfoFree(options);
        Some(parameters)
    }
}

/// # Safety
/// `options` is a list of libpq's: it ends with an entry without keyword, and its texts end with NUL.
unsafe fn read(options: *const PQconninfoOption) -> BTreeMap<String, Option<String>> {
    let text = |place: *const c_char| {
        // SAFETY: as the caller promises.
        (!place.is_null()).then(|| unsafe { CStr::from_ptr(place) }.to_string_lossy().into_owned())
    };
    let mut parameters = BTreeMap::new();
    let mut option = options;
    // SAFETY: the entry without keyword is the last one that is looked at.
    while let Some(keyword) = text(unsafe { (*option).keyword }) {
        // SAFETY: an entry with a keyword is whole, and another one follows it.
        parameters.insert(keyword, text(unsafe { (*option).val }));
        option = unsafe { option.add(1) };
    }
    parameters
}
