#!/bin/sh
# NGINX_ENTRYPOINT_WORKER_PROCESSES_AUTOTUNE: as many workers as the container may use CPUs.
set -e

[ -n "${NGINX_ENTRYPOINT_WORKER_PROCESSES_AUTOTUNE:-}" ] || exit 0
[ -w /etc/nginx/nginx.conf ] || exit 0

cpus=$(nproc)
if [ -r /sys/fs/cgroup/cpu.max ]; then
    read -r quota period < /sys/fs/cgroup/cpu.max
elif [ -r /sys/fs/cgroup/cpu/cpu.cfs_quota_us ]; then
    quota=$(cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us)
    period=$(cat /sys/fs/cgroup/cpu/cpu.cfs_period_us)
fi
case ${quota:-max} in
max | -1) ;;
*)
    allowed=$(((quota + period - 1) / period))
    [ "$allowed" -ge "$cpus" ] || cpus=$allowed
    ;;
esac
sed -i "s/^worker_processes .*/worker_processes $cpus;/" /etc/nginx/nginx.conf
