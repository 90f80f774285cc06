#!/bin/sh
# Makes ../empty.btrfs.gz anew: an empty btrfs, of which pack.go keeps the blocks that are not all zeros. It is small and
# plain (one copy of data and metadata) because it is grown when it is mounted. Needs btrfs-progs.
set -eu
cd "$(dirname "$0")"
image=$(mktemp)
trap 'rm -f "$image"' EXIT
truncate -s 128M "$image"
mkfs.btrfs -q -f -d single -m single "$image"
go run pack.go "$image" >../empty.btrfs.gz
ls -l ../empty.btrfs.gz
