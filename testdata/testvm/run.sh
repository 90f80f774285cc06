#!/bin/bash
# run.sh [-v HOSTDIR]... [-d SIZE]... [-m MEM] CMD
# Boots the test machine and runs the shell command CMD in it as root, in the current directory. The current directory and each -v
# directory are the host's, read and write, at the same path. Scratch disks: /dev/ubda, /dev/ubdb, ... (two of 4G by default).
# Output streams to standard output; exits with CMD's status (124: timeout, 125: the machine ended without one).
C=${TESTVM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/snapdiff-testvm}
vols=$PWD; disks=(); mem=${VM_MEM:-2G}
while getopts v:d:m: o; do case $o in v) vols=$vols:$(realpath "$OPTARG");; d) disks+=("$OPTARG");; m) mem=$OPTARG;; *) exit 2;; esac; done
shift $((OPTIND-1)); [ ${#disks[@]} = 0 ] && disks=(4G 4G)
tmp=$(mktemp -d "${TMPDIR:-/tmp}/testvm.XXXXXX"); trap 'rm -rf "$tmp"' EXIT
printf 'cd %q\n%s\n' "$PWD" "$*" > "$tmp/cmd"; : > "$tmp/out"
# The scratch disks lie in memory where it has room: each flush and each first read of a real disk is a wait.
shm=${VM_SHM:-/dev/shm}; at=$tmp
if [ "$(df -Pk "$shm" | awk 'NR==2 {print $4}')" -gt $((8 << 20)) ]; then at=$(mktemp -d "$shm/testvm.XXXXXX"); trap 'rm -rf "$tmp" "$at"' EXIT; fi
args=(); i=0; for sz in "${disks[@]}"; do truncate -s "$sz" "$at/d$i.raw"; args+=("ubd$i=$at/d$i.raw"); i=$((i+1)); done
# One CPU each: the kernel and the processes that it traces hand over at every system call; across CPUs that is three times slower.
# Runs side by side take different CPUs.
cpus=($(taskset -pc $$ | sed 's/.*: //' | tr , '\n' | while IFS=- read -r a b; do seq "$a" "${b:-$a}"; done))
for cpu in "${cpus[@]}"; do exec 9>"${TMPDIR:-/tmp}/testvm-cpu.$UID.$cpu"; flock -n 9 && break; done
# VM_TTY=1: our terminal is /dev/tty1 in there, so the machine has to stay in our session.
apart=(setsid timeout); tty=()
[ -z "${VM_TTY:-}" ] || { exec 3<&0 4>&1; apart=(timeout --foreground); tty=(con1=fd:3,fd:4); }
TMPDIR=$shm "${apart[@]}" -k 5 "${VM_TIMEOUT:-1800}" taskset -c "$cpu" env LD_PRELOAD="$C/preload.so${VM_PRELOAD:+:$VM_PRELOAD}" "$C/linux.uml" uml_dir="$tmp/" mem="$mem" \
  root=/dev/root rootfstype=hostfs rootflags="$C/root" ro init=/umlinit "${args[@]}" hosttmp="$tmp" hostmount="$vols" \
  con=null con0=null,fd:1 "${tty[@]}" $VM_APPEND >"$tmp/console" 2>&1 </dev/null & pid=$!
# A session of its own, since a stray SIGSTOP or SIGCONT kills the machine; so it must be told when we are to end.
trap 'kill $pid 2>/dev/null' INT TERM QUIT HUP
tail -f -c +1 --pid=$pid -s 0.05 "$tmp/out"; wait $pid; rc=$?
[ -z "$VM_CONSOLE" ] || cp "$tmp/console" "$VM_CONSOLE"
[ $rc = 124 ] && { echo "run.sh: timeout" >&2; exit 124; }
[ -s "$tmp/rc" ] && exit "$(cat "$tmp/rc")"
echo "run.sh: the machine ended without an exit status ($rc)" >&2; tail -20 "$tmp/console" >&2; exit 125
