#!/bin/bash
# lvm-bench.sh [FILES [CHANGED [ROUNDS]]]: incremental runs from a logical volume against rsync -aHAX --delete from the mounted
# snapshot, both in the test machine, where system calls are dear and CPU is not: the figures are ratios, all of one machine, snapdiff
# and rsync in turn. Then a run after the source was mounted anew, when every file is asked where its data lies. FS="ext4 xfs" chooses;
# OTHER=PROGRAM is another build of snapdiff that takes turns with this one. FOLDER=1000 has folders of so many files instead of 500; MAIL=1
# makes one new file in each folder instead of changing CHANGED files. DELAY=10 has each read of the source's disk take so many ms, as on a
# hard disk, in all runs but the first. docs/performance.md has them.
set -euo pipefail
if [ "${1:-}" != guest ]; then
	cd "$(dirname "$0")/../.."
	bin=$(mktemp -d); trap 'rm -rf "$bin"' EXIT
	CGO_ENABLED=0 go build -buildvcs=false -o "$bin/snapdiff" ./cmd/snapdiff
	[ -z "${OTHER:-}" ] || cp "$OTHER" "$bin/other"
	testdata/testvm/run.sh -v "$bin" -d 8G -d 8G \
		"FS=\"${FS:-ext4 xfs}\" FOLDER=${FOLDER:-500} MAIL=${MAIL:-} DELAY=${DELAY:-} bash testdata/testvm/lvm-bench.sh guest ${1:-100000} ${2:-1000} ${3:-3} $bin"
	exit
fi
files=$2 changed=$3 rounds=$4 bin=$5
ulimit -n 524288 # as systemd gives to services
for m in dm-mod dm-thin-pool dm-snapshot; do modprobe $m; done
mkdir /src /mirror /snap
disk=/dev/ubda
# slow MS: each read takes that long. What is before the first MiB of the disk is not used, or LVM would find its label twice.
slow() {
	local table="0 $(($(blockdev --getsz /dev/ubda) - 2048)) delay /dev/ubda 2048 $1 /dev/ubda 2048 0"
	if [ "$disk" = /dev/ubda ]; then
		modprobe dm-delay; dmsetup create slow --table "$table"; dmsetup mknodes; disk=/dev/mapper/slow
	else
		dmsetup reload slow --table "$table"; dmsetup suspend slow; dmsetup resume slow
	fi
}
[ -z "$DELAY" ] || slow 0
{ pvcreate -q $disk; vgcreate -q vg $disk; lvcreate -q -L 6G -T vg/pool; mkfs.ext4 -q /dev/ubdb; } >/dev/null 2>&1
mount /dev/ubdb /mirror
mkdir /mirror/rsync
printf '[jobs.b]\nsource = "/src"\nstore = "/mirror/store"\n' >/root/b.toml
run() { "$bin/${1:-snapdiff}" --config /root/b.toml run; }
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
	if [ -n "$MAIL" ]; then
		for ((i = 0; i < files / FOLDER; i++)); do echo "$1" >"/src/$i/new $1"; done
	else
		for ((i = 0; i < changed; i++)); do echo "$1" >>/src/$((i % (files / FOLDER)))/$((i * 7 % FOLDER)); done
	fi
	sync
	echo 3 >/proc/sys/vm/drop_caches
}
calls() { strace -f -c -o /tmp/calls "$@" >/dev/null; awk '
	$NF == "total" {total = $4}
	$NF ~ /^(clock_gettime|nanosleep|futex|epoll_pwait|sched_yield)$/ {own += $4}
	$NF ~ /^(getdents64|pread64)$/ {some = some ", " $4 " " $NF}
	END {print total " (" own + 0 " of them Go'"'"'s own" some ")"}' /tmp/calls; }
for fs in $FS; do
	case $fs in ext4) options=ro,noload ;; xfs) options=ro,norecovery,nouuid ;; esac
	{ lvcreate -q -V 4G -T vg/pool -n $fs; mkfs.$fs -q /dev/vg/$fs; } >/dev/null 2>&1
	mount /dev/vg/$fs /src
	for ((d = 0; d < files / FOLDER; d++)); do (mkdir /src/$d; cd /src/$d; for ((f = 0; f < FOLDER; f++)); do echo $f >$f; done); done
	"$bin/snapdiff" --config /root/b.toml init >/dev/null
	[ -z "$DELAY" ] || slow 0
	first=$(took run)
	with copy
	echo "$fs: $files files, $changed changed: first copy $first ms, catalog $(stat -c %s /mirror/store/catalog.db) bytes"
	[ -z "$DELAY" ] || slow "$DELAY"
	for ((r = 1; r <= rounds; r++)); do
		line=
		for other in "$bin"/other; do [ -x "$other" ] && { change "other $r"; line=" other $(took run other) ms,"; }; done
		change "changed $r"
		ours=$(took run)
		theirs=$(with took copy)
		echo "  run $ours ms,$line rsync $theirs ms: $(awk -v a="$theirs" -v b="$ours" 'BEGIN {printf "%.1f", a / b}') times as long"
	done
	other_calls=
	for other in "$bin"/other; do [ -x "$other" ] && { change "other again"; other_calls=", other $(calls "$other" --config /root/b.toml run)"; }; done
	change again
	ours_calls=$(calls "$bin/snapdiff" --config /root/b.toml run)
	theirs_calls=$(with calls rsync -aHAX --delete /snap/ /mirror/rsync/)
	umount /src; mount /dev/vg/$fs /src
	change anew
	echo "  system calls: run $ours_calls$other_calls, rsync $theirs_calls; a run after a mount $(took run) ms"
	umount /src
	lvremove -q -y -f vg/$fs >/dev/null 2>&1
	rm -rf /mirror/rsync/* /mirror/store
done
