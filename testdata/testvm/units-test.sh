#!/bin/bash
# units-test.sh: boots systemd in the test machine and starts the units of the package there, with all that they deny: of each kind of source a first
# run and a native one with hooks, a run that fails and its OnFailure, a stop in the middle, the timer. Two minutes; systemd is that of this machine.
set -euo pipefail

host() {
	cd "$(dirname "$0")/../.."
	[ -x /usr/lib/systemd/systemd ] || { echo "units-test.sh: it takes systemd from this machine: apt-get install systemd" >&2; exit 1; }
	bin=$(mktemp -d); trap 'rm -rf "$bin"' EXIT
	CGO_ENABLED=0 go build -buildvcs=false -o "$bin/snapdiff" ./cmd/snapdiff
	testdata/testvm/build.sh
	testdata/testvm/run.sh -v "$bin" "bash testdata/testvm/units-test.sh machine $bin"
}

# machine BIN makes a root that has the programs of the test machine and this machine's systemd, which is process 1 in it and starts guest.
machine() {
	modprobe -a zfs overlay fuse loop btrfs
	mkdir /debian /disks /r
	mount -t hostfs -o / hostfs /debian
	mount -t tmpfs -o mode=755 root /r
	for d in bin sbin lib lib64 usr; do
		mkdir -p /r/$d /r/run/$d/{up,work}
		mount -t overlay -o "lowerdir=/$d:/debian/$d,upperdir=/r/run/$d/up,workdir=/r/run/$d/work" over /r/$d
	done
	mkdir -p /r/{proc,sys,dev,run,tmp,root,srv,backup,disks,var/tmp,var/lib,var/log,etc/snapdiff,etc/systemd/system,old,project}
	cp -a /etc/. /r/etc/
	cp -a /debian/etc/{passwd,group,pam.d,security} /r/etc/
	: > /r/etc/machine-id
	mount --rbind /dev /r/dev
	mount --bind "$PWD" /r/project
	mount --bind /disks /r/disks # where the kernel, which has the root of now, opens a pool's files
	cp "$1/snapdiff" /r/usr/bin/
	cp cmd/snapdiff/packaging/snapdiff.{service,timer} /r/usr/lib/systemd/system/
	cat > /r/etc/systemd/system/try.service <<-'EOS'
		[Unit]
		Requires=sysinit.target
		After=sysinit.target
		[Service]
		Type=oneshot
		ExecStart=/bin/bash /project/testdata/testvm/units-test.sh guest
		StandardOutput=append:/result
		StandardError=inherit
		ExecStopPost=/bin/sh -c 'echo $EXIT_STATUS > /status; systemctl poweroff -ff > /dev/null 2>&1'
	EOS
	unshare -mpfu sh -c 'mount --make-rprivate / && cd /r && pivot_root . old && exec chroot . sh -c "
		mount -t proc proc /proc; mount -t sysfs sys /sys; umount -l /old
		exec /usr/lib/systemd/systemd --unit=try.service --show-status=0 --log-target=kmsg"' > /dev/null || true
	cat /r/result
	exit "$(cat /r/status)"
}

die() {
	echo "units-test.sh: $*" >&2
	journalctl --no-pager -o cat -u snapdiff -n 60 >&2
	exit 1
}

jobs=(btrfs zfs thin classic)

# change N: some of all that a run has to make: set-uid files, devices, owners, ACLs, attributes, links, large and small files.
change() {
	local dir
	for dir in "${jobs[@]}" zfs/child; do
		dir=/srv/$dir
		echo "$1" > "$dir/new$1"; chmod 4755 "$dir/new$1"; chown 1000:100 "$dir/new$1"; ln "$dir/new$1" "$dir/link$1"
		chown 1000:100 "$dir/link$1"; chmod 6755 "$dir/link$1"
		mknod "$dir/null$1" c 1 3; mkfifo "$dir/pipe$1"; ln -s "new$1" "$dir/symlink$1"
		mkdir -p "$dir/d"; setfacl -m u:1000:r "$dir/d"; setfattr -n user.x -v "$1" "$dir/d"
		head -c 10000000 /dev/urandom > "$dir/d/large"; echo more >> "$dir/d/grows"
	done
}

# run HOW: the unit makes a run of each job, which compares that way; then each mirror equals its source.
run() {
	local job out
	rm -f /hooks
	systemctl start snapdiff.service || die "the unit failed"
	for job in "${jobs[@]}"; do
		out=$(snapdiff list --json "$job" | tail -n 1)
		grep -q "\"how\":\"$1\"" <<< "$out" || die "$job was not compared $1: $out"
		out=$(rsync -aHAXn --delete --checksum --itemize-changes --exclude=/.snapdiff --exclude=/lost+found --filter='-x trusted.SGI_ACL_*' "/srv/$job/" "/backup/$job/tree/")
		[ -z "$out" ] || die "$job differs: $out"
		out=$(grep "^$job " /hooks | cut -d ' ' -f 2- | sort | tr '\n' ',')
		# 2: under a filter of system calls
		[ "$out" = "after_run nobody 10 2,after_snapshot nobody 10 2,before_snapshot nobody 10 2,mounted new1," ] || die "the hooks of $job: $out"
	done
}

guest() {
	mkfs.ext4 -q /dev/ubdb; mount /dev/ubdb /backup
	truncate -s 1G /disks/zfs /disks/btrfs
	mkfs.btrfs -q /disks/btrfs > /dev/null; mkdir /srv/{btrfs,thin,classic}; mount -o loop /disks/btrfs /srv/btrfs
	zpool create -O xattr=sa -O acltype=posix -O mountpoint=/srv/zfs tank /disks/zfs; zfs create tank/child
	{ pvcreate -q /dev/ubda; vgcreate -q vg /dev/ubda; lvcreate -q -L 1G -T vg/pool; lvcreate -q -V 1G -T vg/pool -n thin; lvcreate -q -L 500M -n classic vg; } > /dev/null 2>&1
	mkfs.ext4 -q /dev/vg/thin; mount /dev/vg/thin /srv/thin
	mkfs.xfs -q /dev/vg/classic; mount /dev/vg/classic /srv/classic
	cat > /usr/local/bin/hook <<-'EOS'
		#!/bin/sh
		echo "$SNAPDIFF_JOB $SNAPDIFF_HOOK $(runuser -u nobody -- id -un) $(nice) $(sed -n 's/^Seccomp:\s*//p' /proc/self/status)" >> /hooks
		[ "$SNAPDIFF_HOOK" = after_run ] || exit 0
		dir=$(snapdiff mount -j "$SNAPDIFF_JOB" latest) && echo "$SNAPDIFF_JOB mounted $(cd "$dir" && echo new1)" >> /hooks && snapdiff umount "$dir"
	EOS
	chmod +x /usr/local/bin/hook
	for job in "${jobs[@]}"; do
		printf '[jobs.%s]\nsource = "/srv/%s"\nstore = "/backup/%s"\n' "$job" "$job" "$job"
		[ $job != zfs ] || echo 'recursive = true'
		printf '[jobs.%s.hooks]\n' "$job"
		for hook in before_snapshot after_snapshot after_run; do echo "$hook = [\"/usr/local/bin/hook\"]"; done
	done > /etc/snapdiff/snapdiff.toml
	chmod 600 /etc/snapdiff/snapdiff.toml
	change 1
	snapdiff init > /dev/null
	snapdiff check > /dev/null || die "$(snapdiff check)"
	run first
	change 2
	run native
	[ "$(journalctl -o json --output-fields=MESSAGE SNAPDIFF_JOB=zfs | wc -l)" -gt 2 ] || die "the journal has no fields"

	# OnFailure, as operation.md has it. The mail program writes to a file.
	mkdir -p /etc/systemd/system/snapdiff.service.d
	sed -n '/# systemctl edit snapdiff.service/,/^$/p' /project/docs/operation.md | sed 's/^    //' > /etc/systemd/system/snapdiff.service.d/override.conf
	sed -n '/snapdiff-failed@.service$/,/ExecStart/p' /project/docs/operation.md | sed 's/^    //' > /etc/systemd/system/snapdiff-failed@.service
	printf '#!/bin/sh\n{ echo "$@"; cat; } > /mail\n' > /usr/local/bin/mail; chmod +x /usr/local/bin/mail
	systemctl daemon-reload
	mv /backup/thin /backup/away
	! systemctl start snapdiff.service 2> /dev/null || die "a run without a store was no failure"
	for _ in {1..50}; do [ ! -s /mail ] || break; sleep 0.2; done
	sleep 1
	grep -q 'snapdiff.service failed' /mail && grep -q 'is not a snapdiff store' /mail || die "no mail: $(cat /mail)"
	mv /backup/away /backup/thin

	# A stop while the hook runs that starts again what was stopped for the snapshot: it comes to its end. The next run goes on.
	change 3
	cp /usr/local/bin/hook /hook
	printf '#!/bin/sh\n[ "$SNAPDIFF_HOOK" = after_snapshot ] || exit 0; : > /waits; sleep 3; : > /resumed\n' > /usr/local/bin/hook
	systemctl start --no-block snapdiff.service
	until [ -e /waits ]; do sleep 0.1; done
	systemctl stop snapdiff.service
	[ -e /resumed ] || die "a stop has ended the hook after the snapshot"
	cp /hook /usr/local/bin/hook
	run native

	systemctl start snapdiff.timer
	[[ $(systemctl list-timers --no-pager snapdiff.timer) == *snapdiff.service* ]] || die "no timer"
	[[ $(systemctl show -p NextElapseUSecRealtime snapdiff.timer) == *" 01:"* ]] || die "the timer is not at night"
	echo "units: tried"
}

case ${1:-} in machine) machine "$2" ;; guest) guest ;; *) host ;; esac
