#!/bin/bash
# lvm-bench.sh [FILES [CHANGED]]: one incremental run from a logical volume against rsync -aHAX --delete from the mounted snapshot,
# both in the test machine, where system calls are dear and CPU is not: the figures are ratios. docs/performance.md has them.
set -euo pipefail
if [ "${1:-}" != guest ]; then
	cd "$(dirname "$0")/../.."
	bin=$(mktemp -d); trap 'rm -rf "$bin"' EXIT
	CGO_ENABLED=0 go build -buildvcs=false -o "$bin/snapdiff" ./cmd/snapdiff
	testdata/testvm/run.sh -v "$bin" -d 8G -d 8G "bash testdata/testvm/lvm-bench.sh guest ${1:-100000} ${2:-1000} $bin/snapdiff"
	exit
fi
files=$2 changed=$3 snapdiff=$4
for m in dm-mod dm-thin-pool dm-snapshot; do modprobe $m; done
mkdir /src /mirror /snap
{ pvcreate -q /dev/ubda; vgcreate -q vg /dev/ubda; lvcreate -q -L 6G -T vg/pool; mkfs.ext4 -q /dev/ubdb; } >/dev/null 2>&1
mount /dev/ubdb /mirror
mkdir /mirror/rsync
printf '[jobs.b]\nsource = "/src"\nstore = "/mirror/store"\n' >/root/b.toml
snapdiff() { "$snapdiff" --config /root/b.toml "$@"; }
took() { local start; start=$(date +%s%N); "$@" >/dev/null; echo $((($(date +%s%N) - start) / 1000000)); }
copy() { rsync -aHAX --delete /snap/ /mirror/rsync/; }
# with COMMAND: runs it while a snapshot is mounted at /snap.
with() {
	{ lvcreate -q -s -k n -n rs vg/$fs; mount -o "$options" /dev/vg/rs /snap; } >/dev/null 2>&1
	"$@"
	{ umount /snap; lvremove -q -y vg/rs; } >/dev/null 2>&1
}
change() {
	local i
	for ((i = 0; i < changed; i++)); do echo "$1" >>/src/$((i % (files / 500)))/$((i * 7 % 500)); done
	sync
	echo 3 >/proc/sys/vm/drop_caches
}
calls() { strace -f -c -o /tmp/calls "$@" >/dev/null; awk '$NF == "total" {print $4}' /tmp/calls; }
for fs in ext4 xfs; do
	case $fs in ext4) options=ro,noload ;; xfs) options=ro,norecovery,nouuid ;; esac
	{ lvcreate -q -V 4G -T vg/pool -n $fs; mkfs.$fs -q /dev/vg/$fs; } >/dev/null 2>&1
	mount /dev/vg/$fs /src
	for ((d = 0; d < files / 500; d++)); do (mkdir /src/$d; cd /src/$d; for ((f = 0; f < 500; f++)); do echo $f >$f; done); done
	snapdiff init
	first=$(took snapdiff run)
	with copy
	change changed
	ours=$(took snapdiff run)
	theirs=$(with took copy)
	change again
	ours_calls=$(calls "$snapdiff" --config /root/b.toml run)
	theirs_calls=$(with calls rsync -aHAX --delete /snap/ /mirror/rsync/)
	echo "$fs: $files files, $changed changed: first copy $first ms; run $ours ms and $ours_calls system calls, rsync $theirs ms and $theirs_calls;" \
		"catalog $(stat -c %s /mirror/store/catalog.db) bytes"
	umount /src
	lvremove -q -y -f vg/$fs >/dev/null 2>&1
	rm -rf /mirror/rsync/* /mirror/store
done
