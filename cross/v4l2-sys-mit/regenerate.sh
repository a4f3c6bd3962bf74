#!/usr/bin/env bash
# Writes src/bindings.rs from the kernel's header. Needs Debian's linux-libc-dev and libclang-dev, and
# `cargo install bindgen-cli --version 0.72.1`.
set -euo pipefail
cd "$(dirname "$0")"

# The types and constants that the sources of v4l 0.14 and nokhwa-bindings-linux 0.1 name.
types='timeval|time_t|v4l2_(audio|audioout|buffer|capability|captureparm|control|crop|cropcap|edid|enc_idx|encoder_cmd'
types+='|exportbuffer|ext_control|ext_controls|fmtdesc|format|fract|framebuffer|frequency|frmivalenum|frmivaltypes|frmsizeenum|frmsizetypes'
types+='|input|jpegcompression|modulator|output|outputparm|pix_format|query_ext_ctrl|queryctrl|querymenu|requestbuffers'
types+='|sliced_vbi_cap|standard|std_id|streamparm|tuner)'
constants='V4L2_CID_(BACKLIGHT_COMPENSATION|BRIGHTNESS|CONTRAST|EXPOSURE|FOCUS_RELATIVE|GAIN|GAMMA|HUE|IRIS_RELATIVE'
constants+='|PAN_RELATIVE|SATURATION|SHARPNESS|TILT_RELATIVE|WHITE_BALANCE_TEMPERATURE|ZOOM_RELATIVE)'
constants+='|V4L2_CTRL_FLAG_NEXT_(COMPOUND|CTRL)|V4L2_FRMIVAL_TYPE_.*|V4L2_FRMSIZE_TYPE_.*'

bindgen /usr/include/linux/videodev2.h \
  --allowlist-type "$types" --allowlist-var "$constants" \
  --opaque-type 'v4l2_ctrl_(h264|mpeg2|vp8|vp9|hevc|fwht|av1|hdr10).*' \
  --no-layout-tests --no-doc-comments --output src/bindings.rs
