#!/bin/bash
# What is asked of the service on a whole machine with a camera of the kernel's (vivid). Runs inside it, as root, beside
# eyas.deb. Verdicts go to stdout, what was seen into the folder of this script.
set -u
cd "$(dirname "$0")"
page=http://127.0.0.1:8080
failed=0

# Hundredths of a second since the machine was started.
now() {
  local up
  read -r up _ < /proc/uptime
  echo "${up/./}"
}

verdict() {
  printf '%-4s %s\n' "$1" "$2"
  [ "$1" = ok ] || failed=$((failed + 1))
}

# check WORDS COMMAND...: holds now.
check() {
  if "${@:2}" >/dev/null 2>&1; then verdict ok "$1"; else verdict FAIL "$1"; fi
}

# within SECONDS WORDS COMMAND...: comes to hold in time; the verdict says when.
within() {
  local start took
  start=$(now)
  until "${@:3}" >/dev/null 2>&1; do
    took=$(($(now) - start))
    if [ $took -gt $(($1 * 100)) ]; then
      verdict FAIL "$2: not within $1 s ($(property StatusText))"
      return
    fi
    sleep 0.1
  done
  took=$(($(now) - start))
  verdict ok "$2: after $((took / 100)).$((took % 100 / 10)) s"
}

property() {
  systemctl show --property "$1" --value eyas
}

# is FILTER: what /api/status says.
is() {
  curl -sS --max-time 20 $page/api/status | jq -e "$1"
}

lost() {
  is '.source.state == "no_signal"'
}

# Live, and frames have been inferred since the last success.
goes_on() {
  local count
  count=$(is 'select(.source.state == "live") | .inferred') && [ "$count" -gt "$inferred" ] && inferred=$count
}
inferred=0

same_process() {
  [ "$(property MainPID)" = "$pid" ] && [ "$(property NRestarts)" = "$restarts" ]
}

# Takes vivid's device away ("unbind") or brings it back ("bind").
plug() {
  echo vivid.0 > "/sys/bus/platform/drivers/vivid/$1"
}

freeze() {
  v4l2-ctl --device /dev/video0 --set-ctrl "percentage_of_dropped_buffers=$1"
}

# Reads the camera as soon as it is there.
take() {
  until v4l2-ctl --device /dev/video0 --stream-mmap --stream-count=1000000; do :; done > /dev/null 2>&1
}

stream() {
  curl -sS --max-time 600 $page/stream.mjpg > /dev/null
}

# Processes of the service beside the main one.
has_no_children() {
  [ "$(cat /sys/fs/cgroup/system.slice/eyas.service/cgroup.procs)" = "$(property MainPID)" ]
}

nothing_is_left() {
  ! find / -xdev \( -path "$PWD" -o -path /proc -o -path /sys -o -path /var/log/journal \) -prune -o -name '*eyas*' \
    -print | grep .
}

# Follows from the start: whatever happens to the machine, this much is known.
journalctl --no-pager --follow --unit eyas --output short-monotonic > journal.txt &

echo "# $(uname -srm), $(systemctl --version | head -n 1), vivid: $(v4l2-ctl --device /dev/video0 --info | grep -c vivid)"
check "the package is installed" dpkg --install eyas.deb
check "the service is enabled" systemctl is-enabled eyas
within 120 "the service is ready" systemctl is-active eyas
within 120 "the camera was found, and frames are inferred" goes_on
within 30 "systemd's status line tells the rate" sh -c 'systemctl status eyas | grep -E "Status:.* fps"'
check "nokhwa reads the camera" sh -c '! journalctl -u eyas | grep "without nokhwa"'
curl -sS --max-time 60 --output snapshot.jpg $page/snapshot.jpg
check "a snapshot is a JPEG" sh -c '[ "$(head -c 2 snapshot.jpg | od -An -tx1)" = " ff d8" ]'
systemctl status --no-pager eyas > status.txt
systemd-analyze security --no-pager eyas > security.txt
echo "# $(tail -n 1 security.txt)"
check "exposed to 2.0 at most" systemd-analyze security --threshold=20 eyas
pid=$(property MainPID) restarts=0

echo "# the camera is unplugged and plugged in again"
plug unbind
within 5 "unplugged: no signal" lost
within 5 "the status line says so" sh -c 'systemctl show -p StatusText eyas | grep "no signal"'
sleep 12
plug bind
within 30 "plugged in: frames again" goes_on
check "same process, no restart" same_process

echo "# the camera freezes and goes on"
freeze 100
within 5 "frozen: no signal" lost
sleep 12
check "the reason is told" is '.source.reason | test("no frame for [0-9]+ seconds")'
freeze 0
within 30 "thawed: frames again" goes_on
check "same process, no restart" same_process

echo "# another program takes the camera while it is unplugged"
plug unbind
within 5 "unplugged: no signal" lost
# Attempts are five seconds apart by then.
sleep 8
take &
thief=$!
plug bind
within 60 "the camera is told to be in use" is '.source.reason | test("in use")'
kill $thief
pkill v4l2-ctl
within 30 "given back: frames again" goes_on
check "same process, no restart" same_process

echo "# clients, reload, watchdog"
stream &
client=$!
sleep 3
kill -9 $client
pkill -9 curl
within 10 "a killed client is survived" goes_on
sed -i '0,/^#confidence = .*/s//confidence = 0.7/' /etc/eyas/eyas.toml
check "reload succeeds" systemctl reload eyas
within 30 "the new threshold holds" is '.confidence > 0.69 and .confidence < 0.71'
check "same process, no restart" same_process
check "no other process in the service" has_no_children
fed=$(property WatchdogTimestampMonotonic)
sleep 5
check "the watchdog is fed" sh -c "[ $(property WatchdogTimestampMonotonic) -gt $fed ]"

kill -STOP "$pid"
inferred=0
within 60 "hung: systemd starts it again" sh -c 'systemctl show -p NRestarts --value eyas | grep -v "^0$"'
within 120 "frames again" goes_on
systemctl kill --kill-who=main --signal=KILL eyas
inferred=0
within 60 "killed: systemd starts it again" sh -c 'systemctl show -p NRestarts --value eyas | grep "^2$"'
within 120 "frames again" goes_on

echo "# the package is replaced and taken away"
pid=$(property MainPID)
check "the package is installed again" dpkg --install eyas.deb
within 60 "the service has been started again" sh -c "systemctl is-active eyas && [ \$(systemctl show -p MainPID --value eyas) != $pid ]"
check "the changed configuration is kept" grep '^confidence = 0.7' /etc/eyas/eyas.toml
check "the package is removed" dpkg --remove eyas
check "the service is gone" sh -c '! systemctl is-active eyas'
check "configuration stays" test -e /etc/eyas/eyas.toml
check "the package is purged" dpkg --purge eyas
check "nothing is left" nothing_is_left
echo "# $failed failed, $(now | sed 's/..$//') s since the machine was started"
