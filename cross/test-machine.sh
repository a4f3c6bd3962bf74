#!/usr/bin/env bash
# Installs an arm64 package of eyas on a whole emulated machine with systemd and a camera, and watches what the service
# does when the camera is unplugged, freezes, comes back: cross/test-machine.sh DEB [FOLDER].
#
# FOLDER (target/machine if not given) keeps the system from one run to the next, and takes what was seen.
set -euo pipefail
deb=$(realpath "$1")
cd "$(dirname "$0")/.."
folder=$(realpath -m "${2:-${CARGO_TARGET_DIR:-target}/machine}")
root=$folder/root image=$folder/disk.img share=$folder/share
# From outside: what the machine needs for its checks, and the kernel with vivid.
packages=(linux-image-arm64 initramfs-tools systemd systemd-sysv udev dbus kmod procps v4l-utils curl jq)

if [ ! -e "$image" ]; then
  mkdir -p "$folder"
  cross/arm64.sh make "$root" "${packages[@]}"
  echo vivid > "$root/etc/modules-load.d/vivid.conf"
  # One camera that takes pictures, and no faults of its own.
  echo 'options vivid n_devs=1 node_types=0x1 input_types=0x0' > "$root/etc/modprobe.d/vivid.conf"
  cat > "$root/etc/systemd/system/check.service" <<'UNIT'
[Service]
Type=oneshot
ExecStartPre=/bin/mount -t 9p -o trans=virtio,version=9p2000.L share /mnt
ExecStart=/bin/bash /mnt/check.sh
ExecStopPost=/bin/systemctl poweroff --force
TimeoutStartSec=infinity
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyAMA0

[Install]
WantedBy=multi-user.target
UNIT
  ln -sf ../check.service "$root/etc/systemd/system/multi-user.target.wants/check.service"
  # A serial line that checks write to has no login.
  ln -sf /dev/null "$root/etc/systemd/system/serial-getty@ttyAMA0.service"
  cp "$root"/boot/vmlinuz-* "$folder/kernel"
  cp "$root"/boot/initrd.img-* "$folder/initrd"
  rm -f "$image.part"
  mke2fs -q -t ext4 -d "$root" "$image.part" 2G
  mv "$image.part" "$image"
  rm -rf "$root"
fi

rm -rf "$share"
mkdir "$share"
cp cross/machine/check.sh "$share"
cp "$deb" "$share/eyas.deb"
# Two of the Pi 4's cores, without the speed of either.
timeout "${TIMEOUT:-1800}" qemu-system-aarch64 -M virt -cpu cortex-a72 -smp 2 -m 1024 -accel tcg,thread=multi \
  -nodefaults -nographic -no-reboot -serial stdio -kernel "$folder/kernel" -initrd "$folder/initrd" \
  -append "root=/dev/vda rw console=ttyAMA0 quiet systemd.show_status=false" \
  -drive "file=$image,format=raw,if=none,id=disk,snapshot=on" -device virtio-blk-device,drive=disk \
  -fsdev "local,id=share,path=$share,security_model=none" -device virtio-9p-device,fsdev=share,mount_tag=share \
  </dev/null | tee "$folder/console.log"
grep -q '^# 0 failed' "$folder/console.log"
