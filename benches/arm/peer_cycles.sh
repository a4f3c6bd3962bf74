#!/usr/bin/env bash
# peer_cycles.sh TOOLS NAME...: modelled cycles of one inference of LiteRT and ONNX Runtime on the Pi's processors, as
# lines that count.py --peer-cycles reads.
#
# TOOLS is the folder of scripts that run the peers between the marks (bench_litert.py, bench_ort.py, mcacycles.py,
# cpuinfo/PROCESSOR). ARM_LAB names the folder that its setup.sh filled: an AArch64 Python (rootfs), the peers' packages
# (site-litert, site-ort), the plugin, and models/NAME.tflite, with NAME.onnx where there is one.
set -euo pipefail

[ $# -gt 1 ] || { echo "usage: ARM_LAB=DIR peer_cycles.sh TOOLS NAME..." >&2; exit 2; }
tools=$(cd "$1" && pwd)
shift
cd "${ARM_LAB:?set ARM_LAB to the folder that has the peers for aarch64}"
for needed in "$tools"/{bench_litert.py,mcacycles.py,cpuinfo} rootfs site-litert plugin/armprof72.so; do
  [ -e "$needed" ] || { echo "$needed is missing" >&2; exit 1; }
done
scratch=$(mktemp -d)
trap 'rm -rf "$scratch" rootfs/proc/cpuinfo' EXIT
mkdir -p rootfs/proc

# cycles LABEL PROCESSOR MODEL-OF-LLVM PACKAGES SCRIPT ARGUMENT...
cycles() {
  local label=$1 processor=$2 model=$3 packages=$4
  shift 4
  PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 \
    nice qemu-aarch64 -cpu "$processor" -L rootfs -E PYTHONPATH="$PWD/$packages" \
    -plugin "plugin/armprof72.so,region=on,words=on,top=600,out=$scratch/profile" \
    rootfs/usr/bin/python3.11 "$@" >"$scratch/log" 2>&1 || { cat "$scratch/log" >&2; exit 1; }
  echo "$label $processor: $(python3 "$tools/mcacycles.py" "$scratch/profile" "$model" | grep -E 'region|modelled' | tr '\n' ' ')"
}

while read -r processor model; do
  # The peers choose kernels by /proc/cpuinfo, where emulation shows the PC's.
  cp "$tools/cpuinfo/$processor" rootfs/proc/cpuinfo
  for name in "$@"; do
    for mode in xnn noxnn; do
      cycles "litert-$mode-$name" "$processor" "$model" site-litert "$tools/bench_litert.py" litert "models/$name.tflite" 2 "$mode"
    done
    [ -e "models/$name.onnx" ] || continue
    cycles "ort-$name" "$processor" "$model" site-ort "$tools/bench_ort.py" "models/$name.onnx" 2
  done
done <<END
cortex-a53 cortex-a53
cortex-a72 cortex-a72
cortex-a76 neoverse-n1
END
