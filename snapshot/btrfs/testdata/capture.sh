#!/bin/bash
# Makes items.gz beside it (root): all items of a small real btrfs, as the tree search gives them.
set -e
cd "$(dirname "$0")"
work=$(mktemp -d); trap 'umount "$work/mnt" 2>/dev/null; rm -rf "$work"' EXIT
mkdir "$work/mnt"; truncate -s 128M "$work/image"; mkfs.btrfs -q "$work/image"; mount -o loop "$work/image" "$work/mnt"
cd "$work/mnt"
mkdir -p d/e; echo inline >d/small; yes | head -c 100000 >d/data; truncate -s 1M d/hole; printf x >>d/hole; fallocate -l 64K d/prealloc; cp --reflink=always d/data d/clone
head -c 2000 /dev/urandom >random; ln -s d/small link; ln d/small e1; mkfifo fifo; mknod dev c 1 3; printf n >"$(printf 'a\nb\377')"
for i in $(seq 300); do ln d/data "d/e/a-long-name-of-many-links-$i"; done # more than one item of references
setfattr -n user.small -v s d/data; setfattr -n user.large -v "$(head -c 3000 /dev/zero | tr '\0' l)" d/small; setfacl -m u:99:r d/hole
btrfs -q subvolume create sub; sync
cd - >/dev/null
go run capture.go "$work/mnt" | gzip -9n >items.gz
