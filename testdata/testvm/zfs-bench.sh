#!/bin/bash
# zfs-bench.sh [FILES [CHANGED [WIDE [ROUNDS]]]]: incremental runs from a ZFS dataset against rsync -aHAX --delete from the mounted
# snapshot, zfs diff alone and zfs send -i | zfs receive, all in the test machine, where system calls are dear and CPU is not: the
# figures are ratios, medians of ROUNDS. Three cases: WIDE files in one directory, a tenth of them changed; FILES in directories of
# FOLDER (100), CHANGED of them side by side (dense); and as many, each in another block of 32 objects (scattered): with FOLDER=100 of 100,000 each in another
# directory, too. CASES="wide tree" and KINDS="dense scattered" choose.
# docs/performance.md has them.
set -euo pipefail
if [ "${1:-}" != guest ]; then
	cd "$(dirname "$0")/../.."
	bin=$(mktemp -d); trap 'rm -rf "$bin"' EXIT
	CGO_ENABLED=0 go build -buildvcs=false -o "$bin/snapdiff" ./cmd/snapdiff
	VM_MEM=${VM_MEM:-4G} testdata/testvm/run.sh -v "$bin" -d 8G -d 8G \
		"CASES=\"${CASES:-wide tree}\" KINDS=\"${KINDS:-dense scattered}\" CALLS=${CALLS:-} FOLDER=${FOLDER:-100} bash testdata/testvm/zfs-bench.sh guest ${1:-100000} ${2:-1000} ${3:-20000} ${4:-3} $bin/snapdiff"
	exit
fi
files=$2 changed=$3 wide=$4 rounds=$5 snapdiff=$6
modprobe zfs
ulimit -n 524288 # as systemd gives to services; the machine's own 4,096 are less than there are directories to keep open
mkdir /vdev /mirror /snap
mkfs.ext4 -q /dev/ubda; mount /dev/ubda /vdev; truncate -s 6G /vdev/disk
mkfs.ext4 -q /dev/ubdb; mount /dev/ubdb /mirror
zpool create -O xattr=sa -O acltype=posix -O atime=off -O mountpoint=none pool /vdev/disk

config() { printf '[jobs.b]\nsource = "%s"\nstore = "%s"\n' "$1" "$2" >/root/b.toml; }
run() { "$snapdiff" --config /root/b.toml run; }
copy() { rsync -aHAX --delete /snap/ /mirror/rsync/; }
receive() { zfs send -i "$1" "$2" | zfs receive -F pool/received; }
# took COMMAND: milliseconds. What came before leaves work behind, as inodes of an unmounted snapshot that are thrown away: it has time to end.
took() { local start; sync; zpool sync; sleep 3; start=$(date +%s%N); "$@" >/dev/null; echo $((($(date +%s%N) - start) / 1000000)); }
# calls FUNCTION [ARGS]: how many system calls it and all that it starts make.
calls() {
	strace -f -c -o /tmp/calls bash -c "$(declare -f run copy receive); snapdiff=$snapdiff; $*" >/dev/null
	[ -z "${CALLS:-}" ] || head -${CALLS} /tmp/calls >&2
	awk '$NF == "total" {print $4}' /tmp/calls
}
# mounted COMMAND: runs it while the newest snapshot is mounted at /snap.
mounted() { mount -t zfs -o ro "$dataset@$now" /snap; "$@"; umount /snap; }
median() { sort -n | awk '{a[NR] = $1} END {print a[int((NR + 1) / 2)]}'; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN {printf "%.1f", a / b}'; }

# fill DIRECTORIES FILES: so many directories with so many files each.
fill() { local d f; for ((d = 0; d < $1; d++)); do mkdir $d; for ((f = 0; f < $2; f++)); do printf '%s %s\n' $d $f >$d/$f; done; done; }
# change ROUND: changes the files of the case; every round others.
change() {
	local i n=0
	case $kind in
	wide) for ((i = $1 % 10; i < wide; i += 10)); do echo "$1" >>0/$i; done ;;
	dense) for ((i = $1 * changed; n < changed; i++, n++)); do echo "$1" >>$((i / FOLDER % (files / FOLDER)))/$((i % FOLDER)); done ;;
	scattered) for ((i = $1; n < changed; i += files / changed, n++)); do echo "$1" >>$((i / FOLDER % (files / FOLDER)))/$((i % FOLDER)); done ;;
	esac
}
# next ROUND: makes changes and a snapshot of them.
next() {
	(cd /source; change "$1")
	before=$now now=s$((++count))
	zfs snapshot "$dataset@$now"
	sync
	zpool sync
}

measure() {
	local ours=() theirs=() r line
	next 0; first=$(took run); mounted copy; zfs send -i "$dataset@$before" "$dataset@$now" | zfs receive -F pool/received
	for ((r = 1; r <= rounds; r++)); do
		next $r
		ours+=($(took run)); theirs+=($(mounted took copy))
		received+=($(took receive "$dataset@$before" "$dataset@$now"))
	done
	diffed=$(took zfs diff "$dataset@$before" "$dataset@$now")
	next $r
	diff_calls=$(calls zfs diff "$dataset@$before" "$dataset@$now")
	ours_calls=$(calls run)
	theirs_calls=$(mounted calls copy)
	receive_calls=$(calls receive "$dataset@$before" "$dataset@$now")
	o=$(printf '%s\n' "${ours[@]}" | median) t=$(printf '%s\n' "${theirs[@]}" | median) s=$(printf '%s\n' "${received[@]}" | median)
	echo "$kind: $1 files, $2 changed"
	printf '  %-28s %8d ms %9d system calls   (the run after the first copy: %d ms)\n' "snapdiff run" $o $ours_calls $first
	printf '  %-28s %8d ms %9d system calls   %s times as long\n' "rsync -aHAX --delete" $t $theirs_calls $(ratio $t $o)
	printf '  %-28s %8d ms %9d system calls   %s times as long\n' "zfs diff" $diffed $diff_calls $(ratio $diffed $o)
	printf '  %-28s %8d ms %9d system calls   %s times as long\n' "zfs send -i | zfs receive" $s $receive_calls $(ratio $s $o)
}

# prepare NAME: a dataset with what fill makes, in a store, a copy of rsync and a received dataset.
prepare() {
	dataset=pool/$1 count=0 now=s0 received=()
	zfs create -o mountpoint=/source "$dataset"
	(cd /source; fill $2 $3)
	sync; zpool sync; sleep 3
	zfs snapshot "$dataset@$now"
	config "$dataset" /mirror/store
	"$snapdiff" --config /root/b.toml init
	copied=$(took run)
	mkdir /mirror/rsync
	mounted copy
	zfs send "$dataset@$now" | zfs receive -F pool/received
	echo "$1: first copy $copied ms"
}
forget() { rm -rf /mirror/store /mirror/rsync; zfs list -H -t snapshot -o name -r "$dataset" | xargs -n1 zfs holds -H | awk '{print $2, $1}' | xargs -rn2 zfs release; zfs destroy -r "$dataset"; zfs destroy -r pool/received; }

for case in $CASES; do
	case $case in
	wide)
		prepare wide 1 $wide
		kind=wide measure $wide $((wide / 10))
		forget
		;;
	tree)
		prepare tree $((files / FOLDER)) $FOLDER
		for kind in ${KINDS:-dense scattered}; do measure $files $changed; done
		forget
		;;
	esac
done
