#!/usr/bin/env bash
# A Debian 12 in a folder, for arm64 also on an x86-64 machine. Needs root, mmdebstrap, and for arm64 arch-test and
# qemu-user-static.
#
#   cross/debian.sh able ARCH                    whether this machine can, with the reason on stderr where it cannot
#   cross/debian.sh make ARCH ROOT [OPTION...]   a small system; options are mmdebstrap's
#   cross/debian.sh in ROOT COMMAND...           runs a command inside
#
# The machine itself stays as it is: mounts, and how arm64 programs are run (Linux 6.7 or newer), are told to namespaces
# of their own, which end with the command.
set -euo pipefail

# 64-bit little-endian ELF files for AArch64, executable or shared.
magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
format=":aarch64:M::$magic:$mask:/usr/bin/qemu-aarch64-static:F"

# emulated ARCH COMMAND...: runs a command under which programs for the architecture run.
emulated() {
  local holder status=0 emulate=
  [ "$1" != arm64 ] || [ "$(uname -m)" = aarch64 ] || emulate=$format
  unshare --user sleep infinity &
  holder=$!
  trap "kill $holder 2>/dev/null; wait $holder 2>/dev/null || true" EXIT
  # Gone at once where no user namespace may be made.
  while [ "$(readlink /proc/$holder/ns/user)" = "$(readlink /proc/self/ns/user)" ]; do sleep 0.05; done
  { echo 0 0 65536 > /proc/$holder/uid_map && echo 0 0 65536 > /proc/$holder/gid_map &&
    EMULATE=$emulate nsenter --user --target $holder --setuid 0 --setgid 0 \
      unshare --mount --pid --fork --kill-child bash -euc '
        mount -t proc proc /proc
        if [ -n "$EMULATE" ]; then
          mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
          printf %s "$EMULATE" > /proc/sys/fs/binfmt_misc/register
        fi
        exec "$@"' _ "${@:2}"; } || status=$?
  return $status
}

able() {
  [ "$(id -u)" = 0 ] || { echo "only root can" >&2; return 1; }
  emulated "$1" true
}

make() {
  local arch=$1 root=$2
  rm -rf "$root"
  mkdir -p "$(dirname "$root")"
  emulated "$arch" mmdebstrap --mode=root --architectures="$arch" --variant=minbase "${@:3}" bookworm "$root"
}

inside() {
  local arch=arm64
  # The machine that the system's programs are for, of their ELF header.
  [ "$(od -An -tx1 -j18 -N1 "$1/usr/bin/dpkg")" = " b7" ] || arch=amd64
  export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root DEBIAN_FRONTEND=noninteractive
  emulated "$arch" bash -euc '
    mount -t proc proc "$1/proc"
    mount --rbind /dev "$1/dev"
    exec chroot "$@"' _ "$@"
}

case ${1:-} in
  able) able "$2" ;;
  make) make "$2" "$(realpath -m "$3")" "${@:4}" ;;
  in) inside "$(realpath "$2")" "${@:3}" ;;
  *) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2 ;;
esac
