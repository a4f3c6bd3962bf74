#!/usr/bin/env bash
# Builds the release binary and its package for a 64-bit Raspberry Pi on an x86-64 Debian or Ubuntu. Installs nothing: says
# what is missing. Arguments go to `cargo build`.
set -euo pipefail
cd "$(dirname "$0")/.."
target=aarch64-unknown-linux-gnu

missing=()
command -v aarch64-linux-gnu-gcc >/dev/null || missing+=("sudo apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross")
if ! command -v cargo >/dev/null; then
  missing+=("Rust, from https://rustup.rs")
elif [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target" ]; then
  missing+=("rustup target add $target")
fi
command -v qemu-aarch64 >/dev/null && command -v help2man >/dev/null || missing+=("sudo apt-get install qemu-user help2man")
if [ ${#missing[@]} -gt 0 ]; then
  echo "cross/build.sh: first run or install:" >&2
  printf '  %s\n' "${missing[@]}" >&2
  exit 1
fi

# The smallest, for a minute more and some gigabytes of memory. Most of the binary is tract, and most of tract is not run;
# what is costs little on a Pi, but float models take about twice as long so on a PC: this is not in Cargo.toml.
small=(--config 'profile.release.package."*".opt-level="z"')
export CARGO_PROFILE_RELEASE_LTO=fat
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$PWD/cross/linker.sh
cargo build --release --locked --target "$target" "${small[@]}" "$@"
binary=${CARGO_TARGET_DIR:-target}/$target/release/eyas
cross/package.sh "$binary"
