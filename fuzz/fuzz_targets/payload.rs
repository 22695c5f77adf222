#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| andon::fuzzing::fuzz_payload(bytes));
