#!/usr/bin/env bash
# A Debian 12 in a folder, for arm64 also on an x86-64 machine. Needs root, mmdebstrap, and for arm64 arch-test and
# qemu-user-static.
#
#   cross/debian.sh make ARCH ROOT [OPTION...]   a small system; options are mmdebstrap's
#   cross/debian.sh in ROOT COMMAND...           runs a command inside
#
# The machine itself stays as it is: how arm64 programs are run is told to a user namespace of its own (Linux 6.7 or newer).
set -euo pipefail

# 64-bit little-endian ELF files for AArch64, executable or shared.
magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
export EMULATE=":aarch64:M::$magic:$mask:/usr/bin/qemu-aarch64-static:F"

# Runs a command under which arm64 programs run.
emulated() {
  local holder status=0
  unshare --user sleep infinity &
  holder=$!
  while [ "$(readlink /proc/$holder/ns/user)" = "$(readlink /proc/self/ns/user)" ]; do sleep 0.05; done
  echo 0 0 65536 > /proc/$holder/uid_map
  echo 0 0 65536 > /proc/$holder/gid_map
  nsenter --user --target $holder --setuid 0 --setgid 0 unshare --mount --pid --fork --kill-child bash -euc '
    mount -t proc proc /proc
    if [ "$(uname -m)" != aarch64 ]; then
      mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
      printf %s "$EMULATE" > /proc/sys/fs/binfmt_misc/register
    fi
    exec "$@"' _ "$@" || status=$?
  kill $holder
  return $status
}

make() {
  local arch=$1 root=$2
  rm -rf "$root"
  mkdir -p "$(dirname "$root")"
  emulated mmdebstrap --mode=root --architectures="$arch" --variant=minbase "${@:3}" bookworm "$root"
}

inside() {
  export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root DEBIAN_FRONTEND=noninteractive
  emulated bash -euc '
    mount -t proc proc "$1/proc"
    mount --rbind /dev "$1/dev"
    exec chroot "$@"' _ "$@"
}

case ${1:-} in
  make) make "$2" "$(realpath -m "$3")" "${@:4}" ;;
  in) inside "$(realpath "$2")" "${@:3}" ;;
  *) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2 ;;
esac
