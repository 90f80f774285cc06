#!/bin/sh
# need-tools.sh makes sure that the programs which tests, demo and benchmark call are there. As root on Debian it installs
# what is missing; elsewhere it says what to install, and fails. The product itself needs none of them at run time. With the
# argument "peers" it also gets the programs that the benchmark compares snapdiff with.
set -eu
missing= packages=
need() { # PACKAGE COMMAND...
	package=$1; shift
	for c in "$@"; do
		command -v "$c" >/dev/null || [ -x "/usr/sbin/$c" ] || [ -x "/sbin/$c" ] || { missing="$missing $c"; packages="$packages $package"; return; }
	done
}
need gcc gcc                     # the race detector wants cgo
[ -e /usr/include/stdio.h ] || { missing="$missing C-headers"; packages="$packages libc6-dev"; }
need rsync rsync                 # the judge
need tar tar
need attr setfattr getfattr
need acl setfacl getfacl
need libcap2-bin setcap
need util-linux fallocate losetup
need mount mount umount
need sqlite3 sqlite3             # getting files out of a store by hand: the recipe of docs/store-format.md
need btrfs-progs mkfs.btrfs btrfs # balance, defragment, nested subvolumes in scenarios
need xfsprogs mkfs.xfs xfs_io
need e2fsprogs mkfs.ext4
if [ "${1-}" = peers ]; then
	need restic restic
	need borgbackup borg
	need rdiff-backup rdiff-backup
	need rsnapshot rsnapshot
	need fpart fpsync
	need cpio cpio
fi
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	echo "need-tools: installing$packages" >&2
	export DEBIAN_FRONTEND=noninteractive
	log=$(mktemp); trap 'rm -f "$log"' EXIT
	# shellcheck disable=SC2086
	if { apt-get update -qq && apt-get install -y -qq --no-install-recommends $packages; } >"$log" 2>&1; then exit 0; fi
	tail -20 "$log" >&2
fi
echo "need-tools: not here:$missing" >&2
echo "need-tools: install them and run make again; on Debian:  sudo apt-get install$packages" >&2
exit 1
