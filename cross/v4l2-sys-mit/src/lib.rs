//! What `v4l` uses of `linux/videodev2.h`, the same on every 64-bit Linux. Made by `regenerate.sh`.
#![allow(non_camel_case_types, non_snake_case, non_upper_case_globals)]
#![cfg(target_pointer_width = "64")]

include!("bindings.rs");
