#!/bin/bash
# make.sh: captures the send streams in this folder, and what zstream says of each. Runs in the test machine, in this folder:
#   ../../../testdata/testvm/run.sh ./make.sh
set -euo pipefail
modprobe zfs
pool=capture; work=$(mktemp -d); trap 'zpool destroy -f $pool; rm -rf "$work"' EXIT
truncate -s 256M "$work/vdev"
zpool create -O mountpoint="$work/pool" -O compression=lz4 -O xattr=sa -O acltype=posix -O dnodesize=auto -O recordsize=16k $pool "$work/vdev"
zfs create $pool/a; cd "$work/pool/a"

for i in {1..40}; do echo "file $i" > f$i; done
mkdir d d/e gone gone/below; echo x > gone/below/x; echo y > gone/y
head -c 150000 /dev/urandom > data; head -c 12000 /dev/urandom > cut; truncate -s 1M sparse
ln f3 d/link; setfattr -n user.big -v "$(head -c 6000 /dev/zero | tr '\0' v)" f4
zfs snapshot $pool/a@1

echo more >> f5; chmod 600 f6; setfattr -n user.x -v 1 f7; setfattr -n user.y -v 2 f4; rm f8 f9 f10; mv f11 d/e; ln f12 d/e/l12
dd if=/dev/urandom of=data bs=4096 seek=34 count=1 conv=notrunc status=none
fallocate -p -o 0 -l 131072 data; truncate -s 10000 cut; rm -r gone
echo small > embedded; ln -s target symlink; mkfifo fifo; setfacl -m u:7:r f13
zfs snapshot $pool/a@2
for i in {14..40}; do rm f$i; done; rm data
zfs snapshot $pool/a@3
cd - >/dev/null
capture() { # NAME ARGUMENTS of zfs send
	zfs send "${@:2}" > "$work/s"; zstream dump -v < "$work/s" > "$work/dump"
	busybox gzip -c < "$work/s" > "$1.zstream.gz"; busybox gzip -c < "$work/dump" > "$1.dump.gz"
}
capture plain -i @1 $pool/a@2
capture flags -L -e -c -i @1 $pool/a@2
capture freed -i @2 $pool/a@3
