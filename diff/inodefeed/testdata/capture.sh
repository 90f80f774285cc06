#!/bin/bash
# Makes the captures beside it (root): real filesystems with some files, removed ones among them, as sparse tar archives.
set -e
cd "$(dirname "$0")"
work=$(mktemp -d); trap 'umount "$work/mnt" 2>/dev/null; rm -rf "$work"' EXIT
mkdir "$work/mnt"
capture() { # NAME MKFS...: an image that this command fills
	"${@:2}" "$work/$1"
	mount -o loop "$work/$1" "$work/mnt"
	cd "$work/mnt"
	mkdir -p d/e f; for i in $(seq 200); do echo "$i" >d/"$i"; done; for i in $(seq 1 2 200); do rm d/"$i"; done
	yes | head -c 100000 >f/data; truncate -s 1M f/hole; printf x >>f/hole; ln -s ../d f/link; ln f/data d/other; mkfifo f/fifo; mknod f/dev c 1 3
	setfattr -n user.small -v s f/data; setfattr -n user.large -v "$(head -c 900 /dev/zero | tr '\0' l)" d/2; setfacl -m u:99:r f/hole
	rm -f f/data; sync
	cd - >/dev/null
	umount "$work/mnt"
	tar -C "$work" --sparse --sort=name --mtime=@0 --owner=0 --group=0 -c "$1" | gzip -9n >"$1.tar.gz"
}
image() { truncate -s "$1" "$2"; }
fill_ext4() { image 1M "$1"; mkfs.ext4 -q -b 1024 -I 256 -N 256 -O inline_data,^has_journal,^resize_inode "$1"; }
fill_xfs() { image 300M "$1"; mkfs.xfs -q -m bigtime=1,finobt=1,reflink=1 -i sparse=1 "$1"; }
capture ext4 fill_ext4
capture xfs fill_xfs
