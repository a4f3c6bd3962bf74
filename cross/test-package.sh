#!/usr/bin/env bash
# Installs a package of eyas into a Debian 12, uses it, and takes it away again: cross/test-package.sh DEB [FOLDER].
#
# The system is of the package's architecture, and emulated where the PC is not. FOLDER (target/debian-ARCH if not given)
# keeps it from one run to the next. Services do not run in it: for those, test-machine.sh. Needs root.
set -euo pipefail
deb=$(realpath "$1")
cd "$(dirname "$0")/.."
arch=$(dpkg-deb --field "$deb" Architecture)
root=$(realpath -m "${2:-${CARGO_TARGET_DIR:-target}/debian-$arch}")

inside() {
  cross/debian.sh in "$root" "$@"
}

# Everything in the system but dpkg's own notes, and the folders that others may share.
files() {
  (cd "$root" && find . \( -path ./var/lib/dpkg -o -path ./var/log -o -path ./root \) -prune \
    -o \( ! -type d -o -name '*eyas*' \) -print | sort)
}

# has TEXT OUTPUT: the output of a command holds the text.
has() {
  [[ $2 == *"$1"* ]] || { echo "no $1 in: $2" >&2; exit 1; }
}

if [ ! -e "$root/.made" ]; then
  cross/debian.sh make "$arch" "$root"
  touch "$root/.made"
fi
cp "$deb" "$root/root/eyas.deb"
cp tests/demo/colours.tflite tests/demo/scene/00.jpg "$root/root"
before=$(files)

inside dpkg --install /root/eyas.deb
inside eyas --version
has '"label":"qr_code"' "$(inside eyas run --source demo --no-listen --frames 2 --events -)"
has '"detections":[{' "$(inside eyas detect --json --model /root/colours.tflite /root/00.jpg)"
inside dpkg --remove eyas
[ -e "$root/etc/eyas/eyas.toml" ] || { echo "the configuration went with the program" >&2; exit 1; }
inside dpkg --purge eyas
diff <(echo "$before") <(files) || { echo "not everything is gone" >&2; exit 1; }
echo "installed, used, removed: nothing is left"
