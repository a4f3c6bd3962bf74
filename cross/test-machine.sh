#!/usr/bin/env bash
# Installs a package of eyas on a whole virtual machine with systemd and a camera, and watches what the service does when
# the camera is unplugged, freezes, comes back: cross/test-machine.sh DEB [FOLDER].
#
# The machine is a Debian 12 of the package's architecture, emulated where the PC cannot do better. FOLDER
# (target/machine-ARCH if not given) keeps it from one run to the next, and takes what was seen. Needs root.
set -euo pipefail
deb=$(realpath "$1")
cd "$(dirname "$0")/.."
arch=$(dpkg-deb --field "$deb" Architecture)
folder=$(realpath -m "${2:-${CARGO_TARGET_DIR:-target}/machine-$arch}")
root=$folder/root image=$folder/disk.img share=$folder/share
packages=linux-image-$arch,initramfs-tools,systemd,systemd-sysv,udev,dbus,kmod,procps,v4l-utils,curl,jq
# All that the start needs: with every module the first ramdisk would take longer to make than the rest.
modules=$'virtio_blk\nvirtio_pci\nvirtio_mmio\next4'

case $arch in
  # Two of the Pi 4's cores, without the speed of either.
  arm64) qemu=(qemu-system-aarch64 -M virt -cpu cortex-a72) console=ttyAMA0 ;;
  amd64) qemu=(qemu-system-x86_64 -M q35 -cpu max) console=ttyS0 ;;
esac

if [ ! -e "$image" ]; then
  mkdir -p "$folder"
  export modules
  cross/debian.sh make "$arch" "$root" --include="$packages" --essential-hook='
    mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/usr/share/initramfs-tools/modules.d"
    echo MODULES=list > "$1/etc/initramfs-tools/conf.d/machine"
    echo "$modules" > "$1/usr/share/initramfs-tools/modules.d/machine"'
  echo vivid > "$root/etc/modules-load.d/vivid.conf"
  # One camera that takes pictures.
  echo 'options vivid n_devs=1 node_types=0x1 input_types=0x0' > "$root/etc/modprobe.d/vivid.conf"
  cat > "$root/etc/systemd/system/check.service" <<UNIT
[Service]
Type=oneshot
ExecStartPre=/bin/mount -t 9p -o trans=virtio,version=9p2000.L share /mnt
ExecStart=/bin/bash /mnt/check.sh
ExecStopPost=/bin/systemctl poweroff --force
TimeoutStartSec=infinity
StandardOutput=tty
StandardError=tty
TTYPath=/dev/$console
UNIT
  mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
  ln -sf ../check.service "$root/etc/systemd/system/multi-user.target.wants"
  # The line that verdicts are written to has no login.
  ln -sf /dev/null "$root/etc/systemd/system/serial-getty@$console.service"
  cp "$root"/boot/vmlinuz-* "$folder/kernel"
  cp "$root"/boot/initrd.img-* "$folder/initrd"
  mke2fs -q -t ext4 -d "$root" "$image.part" 2G
  mv "$image.part" "$image"
  rm -rf "$root"
fi

rm -rf "$share"
mkdir "$share"
cp cross/machine/check.sh "$share"
cp "$deb" "$share/eyas.deb"
timeout "${TIMEOUT:-1800}" "${qemu[@]}" -smp 2 -m 1024 -accel tcg,thread=multi \
  -nodefaults -nographic -no-reboot -serial stdio -kernel "$folder/kernel" -initrd "$folder/initrd" \
  -append "root=/dev/vda rw console=$console loglevel=0 systemd.show_status=false" \
  -drive "file=$image,format=raw,if=none,id=disk,snapshot=on" -device virtio-blk,drive=disk \
  -fsdev "local,id=share,path=$share,security_model=none" -device virtio-9p,fsdev=share,mount_tag=share \
  </dev/null | tee "$folder/console.log"
grep -q '^# 0 failed' "$folder/console.log"
