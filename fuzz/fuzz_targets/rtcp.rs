#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| voiceping_fuzz::engine::rtcp(data));
