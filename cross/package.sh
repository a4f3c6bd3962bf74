#!/usr/bin/env bash
# Makes a Debian package of a built eyas: cross/package.sh BINARY [FOLDER]. Prints its name.
#
# Of dpkg's own tools: the packages are made on any Debian or Ubuntu, and nothing has to be compiled for that.
set -euo pipefail
binary=$(realpath "$1")
out=$(realpath "${2:-$(dirname "$1")}")
cd "$(dirname "$0")/.."

missing=()
for tool in dpkg-deb help2man readelf; do
  command -v $tool >/dev/null || missing+=($tool)
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "cross/package.sh: first: sudo apt-get install dpkg help2man binutils (missing: ${missing[*]})" >&2
  exit 1
fi

# The architecture, how to run the binary here, and the tools for it.
case $(readelf -h "$binary" | awk '/Machine:/ {print $2}') in
  AArch64) arch=arm64 machine=aarch64 ;;
  Advanced) arch=amd64 machine=x86_64 ;;
  *) echo "cross/package.sh: $binary is neither for arm64 nor for amd64" >&2; exit 1 ;;
esac
run=() prefix=
if [ "$machine" != "$(uname -m)" ]; then
  run=("qemu-$machine" -L "/usr/$machine-linux-gnu")
  prefix=$machine-linux-gnu-
fi

root=$(mktemp -d)
tools=$(mktemp -d)
trap 'rm -rf "$root" "$tools"' EXIT
chmod 755 "$root"
printf '#!/bin/sh\nexec %s "$@"\n' "${run[*]} '$binary'" > "$tools/eyas"
chmod 755 "$tools/eyas"

version=$("$tools/eyas" --version | cut -d ' ' -f 2)
# The last change dates everything, so that the same sources make the same package.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
maintainer="${DEBFULLNAME:-The eyas developers} <${DEBEMAIL:-$(git log -1 --format=%ae)}>"
doc=$root/usr/share/doc/eyas

# put MODE TARGET SOURCE...: a folder's worth of files.
put() {
  install -D -m "$1" -t "$root/$2" "${@:3}"
}

# page [COMMAND]: a man page of what --help says.
page() {
  local name=eyas${1:+-$1} summary
  summary=$("$tools/eyas" "$@" --help | sed -n '1{s/[.]$//;s/^./\l&/p;q}')
  PATH=$tools:$PATH help2man --no-info --no-discard-stderr --manual eyas --source "eyas $version" \
    --version-string "$name $version" --name "$summary" "eyas${1:+ $1}" | gzip -9n > "$root/usr/share/man/man1/$name.1.gz"
}

# The libraries inside the binary, and their licences' own words.
crates() {
  local triple=$machine-unknown-linux-gnu name version licence folder
  cargo tree --locked --edges normal --target "$triple" --prefix none --format '{p}|{l}' | sort -u |
    sed -E 's/^([^ ]+) v([^ |]+)[^|]*\|/\1 \2 /' | while read -r name version licence; do
    printf '%s\n%s %s: %s\n\n' "$(printf '=%.0s' {1..80})" "$name" "$version" "$licence"
    for folder in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/"$name-$version"; do
      find "$folder" -maxdepth 1 -type f \( -iname 'licen[sc]e*' -o -iname 'copying*' -o -iname 'notice*' \) \
        ! -iname '*apache*' -exec cat {} + 2>/dev/null || true
    done
  done
}

install -D -m 755 "$binary" "$root/usr/bin/eyas"
"${prefix}strip" "$root/usr/bin/eyas"
put 644 etc/eyas systemd/eyas.toml
put 644 usr/share/eyas/labels labels/*.txt
put 644 usr/lib/udev/rules.d cross/debian/60-eyas.rules
# Without the head, which says how to install it by hand.
install -d "$root/usr/lib/systemd/system"
sed -e '1,/^$/d' -e 's|/usr/local/bin/|/usr/bin/|' systemd/eyas.service > "$root/usr/lib/systemd/system/eyas.service"
put 644 usr/share/doc/eyas README.md docs/*.md
sed -e '/^@MIT@$/{r /dev/stdin' -e 'd}' cross/debian/copyright > "$doc/copyright" \
  < <(sed -n '/^Permission/,$p' LICENSE-MIT | sed -e 's/^$/./' -e 's/^/ /')
crates | gzip -9n > "$doc/crates.gz"
printf 'eyas (%s) stable; urgency=medium\n\n  * Version %s.\n\n -- %s  %s\n' "$version" "$version" "$maintainer" \
  "$(date -R -u -d "@$SOURCE_DATE_EPOCH")" | gzip -9n > "$doc/changelog.gz"
install -d "$root/usr/share/man/man1"
page
for command in $("$tools/eyas" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p'); do
  [ "$command" = help ] || page "$command"
done

install -d "$root/DEBIAN"
install -m 755 cross/debian/{postinst,prerm,postrm} "$root/DEBIAN"
echo /etc/eyas/eyas.toml > "$root/DEBIAN/conffiles"
# Packed relocations are a feature of glibc 2.36.
glibc=$("${prefix}readelf" -V "$binary" | grep -oE 'GLIBC_([0-9.]+|ABI_DT_RELR)' | sed 's/ABI_DT_RELR/2.36/' | sort -uV |
  tail -n 1)
cat > "$root/DEBIAN/control" <<CONTROL
Package: eyas
Version: $version
Architecture: $arch
Maintainer: $maintainer
Section: video
Priority: optional
Installed-Size: $(du -sk --exclude DEBIAN "$root" | cut -f 1)
Depends: libc6 (>= ${glibc#GLIBC_}), libgcc-s1
Suggests: ffmpeg, rpicam-apps
Description: object detector for the Raspberry Pi
 eyas takes frames from cameras, pictures, videos and streams, runs a
 quantized SSD-MobileNet on integer kernels of its own, draws what it found
 and shows it live in a browser.
 .
 It runs as a service, which is configured in /etc/eyas/eyas.toml.
CONTROL
(cd "$root" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | sort -z | xargs -0 md5sum > DEBIAN/md5sums)
find "$root" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
deb=$out/eyas_${version}_$arch.deb
dpkg-deb --root-owner-group -Zxz --build "$root" "$deb" >/dev/null
echo "$deb: $(stat -c %s "$deb") bytes, the program $(stat -c %s "$root/usr/bin/eyas")"
