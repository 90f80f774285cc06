#!/bin/bash
# make-store.sh SNAPDIFF: has the program make a store with a history and packs it as store.tar.gz beside this script, for what reads damaged ones
# (FuzzDamagedCatalog). As root. There are no devices in it: anybody can unpack it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
snapdiff=$(realpath "$1")
dir=$(mktemp -d)
trap 'cd /; umount "$dir/mnt" || true; rm -rf "$dir"' EXIT
mkdir "$dir/mnt"
truncate -s 256M "$dir/image"
mkfs.btrfs -q "$dir/image"
mount -o loop "$dir/image" "$dir/mnt"
btrfs -q subvolume create "$dir/mnt/source"
configure() { printf '[jobs.mail]\nsource = "%s"\nstore = "%s"\n%s\n' "$dir/mnt/source" "$dir/store" "${1-}" > "$dir/snapdiff.toml"; }
run() { "$snapdiff" --config "$dir/snapdiff.toml" "$@"; }

configure
run init
cd "$dir/mnt/source"
mkdir -p d/e moved/deep gone/deep
for i in {1..30}; do echo "$i" > "d/file $i"; done
echo one > d/one; ln d/one d/e/link; echo two > two; ln -s one d/symlink; echo x > gone/deep/x; echo a > moved/deep/a; echo no > held-back
setfattr -n user.a -v 1 d/one
run run
echo more >> d/one; rm -r gone; mv moved d/moved2; rm d/symlink; for i in {1..30..3}; do echo again >> "d/file $i"; done
run run
setfattr -n user.b -v 2 d/one; chmod 600 two; mv two d/e/two; ln d/e/two three; mkdir new; for i in {1..10}; do mv "d/file $i" "new/$i"; done; rm "d/file 20"
run run
mv d/moved2 moved3; echo else > moved3/deep/a; rm d/e/link; echo four > d/symlink
run run
rm -r new; echo five > five; chown 12:34 d/e
run run
run verify
configure 'keep = { last = 4 }'
run prune
tar -C "$dir" --owner=0 --group=0 --exclude=store/spare --exclude=store/spare-inodes -czf "$here/store.tar.gz" store
