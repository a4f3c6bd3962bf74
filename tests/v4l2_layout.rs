//! The bindings under `cross/v4l2-sys-mit` against what the C compilers for x86-64 and aarch64 say of
//! `linux/videodev2.h`.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

use std::mem::{offset_of, size_of};

use v4l::v4l_sys::*;
use v4l::v4l2::vidioc;

#[test]
fn structures_have_the_sizes_of_the_kernel() {
    assert_eq!(size_of::<v4l2_capability>(), 104);
    assert_eq!(size_of::<v4l2_fmtdesc>(), 64);
    assert_eq!(size_of::<v4l2_format>(), 208);
    assert_eq!(size_of::<v4l2_pix_format>(), 48);
    assert_eq!(size_of::<v4l2_requestbuffers>(), 20);
    assert_eq!(size_of::<v4l2_buffer>(), 88);
    assert_eq!(size_of::<v4l2_streamparm>(), 204);
    assert_eq!(size_of::<v4l2_captureparm>(), 40);
    assert_eq!(size_of::<v4l2_frmsizeenum>(), 44);
    assert_eq!(size_of::<v4l2_frmivalenum>(), 52);
    assert_eq!(size_of::<v4l2_query_ext_ctrl>(), 232);
    assert_eq!(size_of::<v4l2_ext_control>(), 20);
    assert_eq!(size_of::<v4l2_ext_controls>(), 32);
    assert_eq!(size_of::<v4l2_querymenu>(), 44);
}

#[test]
fn fields_lie_where_the_kernel_looks() {
    assert_eq!(offset_of!(v4l2_capability, device_caps), 88);
    assert_eq!(offset_of!(v4l2_format, fmt), 8);
    assert_eq!(offset_of!(v4l2_pix_format, bytesperline), 16);
    assert_eq!(offset_of!(v4l2_pix_format, xfer_func), 44);
    assert_eq!(offset_of!(v4l2_buffer, timestamp), 24);
    assert_eq!(offset_of!(v4l2_buffer, sequence), 56);
    assert_eq!(offset_of!(v4l2_buffer, m), 64);
    assert_eq!(offset_of!(v4l2_buffer, length), 72);
    assert_eq!(offset_of!(v4l2_streamparm, parm), 4);
    assert_eq!(offset_of!(v4l2_frmsizeenum, __bindgen_anon_1), 12);
    assert_eq!(offset_of!(v4l2_frmivalenum, __bindgen_anon_1), 20);
    assert_eq!(offset_of!(v4l2_ext_control, __bindgen_anon_1), 12);
}

#[test]
fn calls_have_the_numbers_of_the_kernel() {
    for (call, number) in [
        (vidioc::VIDIOC_QUERYCAP, 0x8068_5600_u32),
        (vidioc::VIDIOC_ENUM_FMT, 0xc040_5602),
        (vidioc::VIDIOC_G_FMT, 0xc0d0_5604),
        (vidioc::VIDIOC_S_FMT, 0xc0d0_5605),
        (vidioc::VIDIOC_REQBUFS, 0xc014_5608),
        (vidioc::VIDIOC_QUERYBUF, 0xc058_5609),
        (vidioc::VIDIOC_QBUF, 0xc058_560f),
        (vidioc::VIDIOC_DQBUF, 0xc058_5611),
        (vidioc::VIDIOC_STREAMON, 0x4004_5612),
        (vidioc::VIDIOC_STREAMOFF, 0x4004_5613),
        (vidioc::VIDIOC_G_PARM, 0xc0cc_5615),
        (vidioc::VIDIOC_S_PARM, 0xc0cc_5616),
        (vidioc::VIDIOC_ENUM_FRAMESIZES, 0xc02c_564a),
        (vidioc::VIDIOC_ENUM_FRAMEINTERVALS, 0xc034_564b),
    ] {
        // musl's calls are signed.
        assert_eq!(call as u32, number);
    }
}
