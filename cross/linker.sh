#!/usr/bin/env bash
# The linker of cross/build.sh: rustup's lld behind the C compiler for aarch64. Unlike GNU ld it folds identical
# functions and packs relocations, which leaves out a twentieth of the binary; packed relocations need glibc 2.36.
set -euo pipefail
lld=$(rustc --print sysroot)/lib/rustlib/$(rustc --print host-tuple)/bin/gcc-ld
exec aarch64-linux-gnu-gcc -fuse-ld=lld -B"$lld" -Wl,-z,pack-relative-relocs -Wl,--icf=all "$@"
