#!/usr/bin/env bash
# inner_loops.sh PROFILE [BLOCKS]: what llvm-mca says of the blocks that run the most instructions in a profile that
# count.py --profiles has kept, for each processor: cycles per iteration, the bound that the execution units set, and
# multiply-accumulates per cycle. A block that calls a function costs 100 cycles a call: llvm-mca knows no better.
# LISTING=on prints the instructions too.
set -euo pipefail

profile=${1:?usage: inner_loops.sh PROFILE [BLOCKS]}
blocks=${2:-5}
mca=${LLVM_MCA:-llvm-mca-19}
cpus=(cortex-a53 cortex-a72 neoverse-n1)
if [ ! -e "$profile.s" ]; then
  echo "$profile.s does not exist: run count.py with --profiles" >&2
  exit 1
fi
if ! command -v "$mca" >/dev/null; then
  echo "$mca is not installed: set LLVM_MCA to llvm-mca" >&2
  exit 1
fi
listing=$(mktemp) errors=$(mktemp)
trap 'rm -f "$listing" "$errors"' EXIT

# Instructions of block N.
block() {
  awk -v name="b$1" '$2 == "LLVM-MCA-BEGIN" { on = $3 == name; next } $2 == "LLVM-MCA-END" { on = 0 } on' "$profile.s"
}

# Multiply-accumulates of one pass through the instructions on stdin: lanes of the result, four for each of sdot's.
multiplies() {
  awk '
    $1 ~ /^[su]dot$/ { sum += $2 ~ /\.4s/ ? 16 : 8; next }
    $1 ~ /^[su]m(ul|la|ls)l2?$/ { sum += $2 ~ /\.8h/ ? 8 : 4; next }
    $1 ~ /^ml[as]$/ { sum += $2 ~ /\.16b/ ? 16 : $2 ~ /\.8[bh]/ ? 8 : 4 }
    END { print sum + 0 }'
}

# Share of the region and function of block N.
place() {
  awk -v wanted="$1" '
    /^region/ { sub(/.*insns=/, ""); total = $1 }
    /^  0x/ { if (count++ == wanted) printf "%.1f%% %s\n", 100 * $4 / total, $6 }' "$profile"
}

# Cycles of one pass, the bound of the execution units and multiplies per cycle, as cells of a table.
model() {
  "$mca" -mtriple=aarch64 -mcpu="$1" -mattr=+v8.2a,+dotprod,+fullfp16 -iterations=100 "$listing" 2>"$errors" |
    awk -v macs="$2" '
      /^Total Cycles:/ { cycles = $3 / 100 }
      /^Block RThroughput:/ { bound = $3 }
      END { if (cycles) printf " %.1f | %.1f | %.1f |", cycles, bound, macs / cycles; else exit 1 }' ||
    { cat "$errors" >&2; exit 1; }
}

printf '| block | function | of all instructions | instructions | MAC |'
for cpu in "${cpus[@]}"; do printf ' %s cycles | bound | MAC per cycle |' "$cpu"; done
printf '\n|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n'
for ((number = 0; number < blocks; number++)); do
  block "$number" >"$listing"
  [ -s "$listing" ] || break
  macs=$(multiplies <"$listing")
  read -r share name < <(place "$number")
  printf '| %d | %s | %s | %d | %d |' "$number" "$name" "$share" "$(wc -l <"$listing")" "$macs"
  for cpu in "${cpus[@]}"; do
    model "$cpu" "$macs"
  done
  printf '\n'
  if [ "${LISTING:-off}" = on ]; then sed 's/^/    /' "$listing"; fi
done | { if command -v c++filt >/dev/null; then c++filt; else cat; fi; } | sed 's/::h[0-9a-f]\{16\}//'
