#!/bin/bash
# soak.sh [MINUTES]: everything that is too long for `make test` (SNAPDIFF_SOAK=1), on the host and, beside it, in the test machine what
# testdata/testvm/tests lists; again and again with new random seeds until the minutes are over (default 60). What is under way then is
# stopped, and said. Stops at the first failure; what it printed tells the seed to replay (docs/testing.md).
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "soak.sh: the tests mount filesystems: run as root" >&2; exit 1; }
minutes=${1:-60} end=$((SECONDS + ${1:-60} * 60))
testdata/testvm/build.sh
. testdata/workdir.sh
export TMPDIR=$work SNAPDIFF_SOAK=1 CGO_ENABLED=0 VM_TIMEOUT=86400

# What runs on each side: one package after the other; soak does it again and again and ends with the first failure.
host() { go test -count=1 -p 1 -timeout 24h ./...; }
guest() {
	grep -v '^#' testdata/testvm/tests | shuf | while read -r package regexp; do
		go test -count=1 -timeout 24h -exec "$PWD/testdata/testvm/gotest-exec.sh" -run "${regexp:-.}" "$package" </dev/null || exit 1
	done
}
soak() {
	for ((round = 1; ; round++)); do
		echo "soak: $1: round $round, $((SECONDS / 60)) minutes"
		"$1" || { echo "soak: $1: round $round failed"; exit 1; }
	done
}
set -m # each of the two has a process group, which is stopped whole
soak host & host=$!
soak guest & guest=$!
set +m
trap 'kill -TERM -- -$host -$guest 2>/dev/null; wait; take_down "$work"' EXIT
while ((SECONDS < end)); do
	for job in $host $guest; do
		kill -0 "$job" 2>/dev/null || { wait "$job" || true; exit 1; } # it has said why
	done
	sleep 2
done
echo "soak: $minutes minutes are over and nothing failed; what is under way is stopped"
