#!/bin/bash
# datasets-recipe.sh: tries the recipe "Many datasets, one instant" of docs/recipes.md in the test machine: children that come and go.
set -euo pipefail
if [ "${1:-}" != guest ]; then
	cd "$(dirname "$0")/../.."
	bin=$(mktemp -d); trap 'rm -rf "$bin"' EXIT
	CGO_ENABLED=0 go build -buildvcs=false -o "$bin/snapdiff" ./cmd/snapdiff
	testdata/testvm/run.sh -v "$bin" "bash testdata/testvm/datasets-recipe.sh guest $bin"
	exit
fi
PATH=$2:$PATH
die() { echo "datasets-recipe.sh: $*" >&2; exit 1; }
modprobe zfs
mkdir /vdev /backup
mkfs.ext4 -q /dev/ubda; mount /dev/ubda /vdev; truncate -s 1G /vdev/disk
mkfs.ext4 -q /dev/ubdb; mount /dev/ubdb /backup
zpool create -O xattr=sa -O acltype=posix tank /vdev/disk
zfs create tank/home; zfs create tank/home/anna; zfs create tank/home/anna/mail; zfs create tank/home/ben

night() {
	# --- the recipe
	zfs snapshot -r tank/home@$night
	zfs list -H -o name -t filesystem -r tank/home | while read -r dataset; do
		printf '[jobs.%s]\nsource = "%s"\nstore = "/backup/%s"\n' "${dataset//\//-}" "$dataset" "${dataset//\//-}"
	done > /root/home.toml
	snapdiff --config /root/home.toml init
	zfs list -H -o name -t filesystem -r tank/home | while read -r dataset; do
		snapdiff --config /root/home.toml run "${dataset//\//-}" --snapshot "$dataset@$night"
	done
	# ---
}
same() { # DATASET: its mirror equals its snapshot of this night
	local out
	out=$(rsync -aHAXn --delete --checksum --itemize-changes "/$1/.zfs/snapshot/$night/" "/backup/${1//\//-}/tree/")
	[ -z "$out" ] || die "$1 differs: $out"
}
echo one > /tank/home/a; echo two > /tank/home/anna/b; echo three > /tank/home/anna/mail/c; echo four > /tank/home/ben/d
night=n1; night
echo more >> /tank/home/anna/mail/c; rm /tank/home/ben/d; zfs create tank/home/carl; echo five > /tank/home/carl/e
night=n2; night
zfs destroy -r tank/home/ben 2>/dev/null && die "the base of a job that is gone was not held"
snapdiff --config /root/home.toml release -j tank-home-ben
zfs destroy -r tank/home/ben; echo six > /tank/home/f
night=n3; night
for d in tank/home tank/home/anna tank/home/anna/mail tank/home/carl; do same $d; done
zfs destroy -r tank/home@n2
snapdiff --config /root/home.toml list
[ "$(snapdiff --config /root/home.toml list | grep -c native)" = 7 ] || die "not all compared natively"
echo "datasets: tried"
