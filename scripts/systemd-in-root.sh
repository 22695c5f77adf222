#!/usr/bin/env bash
# Boots the systemd of a Debian root directory in namespaces of its own; it shares the network. For scripts/test-package.sh.
#   scripts/systemd-in-root.sh ROOT
# It ends with the process that it starts. `nsenter` reaches the inside.
set -euo pipefail
export ROOT=${1:?usage: scripts/systemd-in-root.sh ROOT}
# shellcheck disable=SC2016 # expanded by the shell in the new namespaces
exec unshare --mount --pid --uts --ipc --cgroup --fork --kill-child --propagation private bash -euc '
mount --bind "$ROOT" "$ROOT"
cd "$ROOT"
mountpoint -q proc || mount -t proc proc proc
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
mount -t tmpfs -o mode=755 tmpfs dev
for device in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
    IFS=: read -r name major minor <<<"$device"
    mknod -m 666 "dev/$name" c "$major" "$minor"
done
mkdir -p dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 tmpfs run
if [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]; then
    mount -t cgroup2 cgroup2 sys/fs/cgroup
else
    mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
    mkdir sys/fs/cgroup/systemd sys/fs/cgroup/memory sys/fs/cgroup/pids
    mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
    mount -t cgroup -o memory cgroup sys/fs/cgroup/memory
    mount -t cgroup -o pids cgroup sys/fs/cgroup/pids
fi
mkdir -p mnt/host
pivot_root . mnt/host
cd /
umount -l /mnt/host
# systemd hands credentials to a service through a mount that has to reach the service.
mount --make-rshared /
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --log-level=notice --show-status=no </dev/null
'
