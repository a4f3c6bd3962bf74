#!/usr/bin/env bash
# Installs an arm64 package of eyas into an emulated Debian, uses it, and takes it away again: cross/test-package.sh DEB [FOLDER].
#
# FOLDER (target/arm64 if not given) keeps the system from one run to the next. Services do not run in it: for those,
# test-machine.sh.
set -euo pipefail
deb=$(realpath "$1")
cd "$(dirname "$0")/.."
root=$(realpath -m "${2:-${CARGO_TARGET_DIR:-target}/arm64}")

inside() {
  cross/debian.sh in "$root" "$@"
}

# Everything in the system but dpkg's own notes.
files() {
  (cd "$root" && find . -path ./var/lib/dpkg -prune -o -path ./var/log -prune -o -print | sort)
}

if [ ! -e "$root/.made" ]; then
  cross/debian.sh make arm64 "$root"
  touch "$root/.made"
fi
cp "$deb" "$root/root/eyas.deb"
cp tests/demo/colours.tflite tests/demo/scene/00.jpg "$root/root"
before=$(files)

inside dpkg --install /root/eyas.deb
inside eyas --version
# Output that nobody reads to the end would end eyas.
log=$(inside eyas run --source demo --no-listen --frames 2 --events -)
grep -q '"label":"qr' <<< "$log" || { echo "nothing was found in the demo scene: $log" >&2; exit 1; }
found=$(inside eyas detect --json --model /root/colours.tflite /root/00.jpg)
grep -q '"detections":\[{' <<< "$found" || { echo "nothing was found: $found" >&2; exit 1; }
inside dpkg --remove eyas
[ -e "$root/etc/eyas/eyas.toml" ] || { echo "the configuration went with the program" >&2; exit 1; }
inside dpkg --purge eyas
diff <(echo "$before") <(files) || { echo "not everything is gone" >&2; exit 1; }
rm "$root"/root/*
echo "installed, used, removed: nothing is left"
