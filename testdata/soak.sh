#!/bin/bash
# soak.sh [MINUTES]: everything that is too long for `make test` (SNAPDIFF_SOAK=1), then again with new random seeds until the
# minutes are over (default 60). Stops at the first failure; what it printed tells the seed to replay (SNAPDIFF_SEED=N).
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "soak.sh: the tests mount filesystems: run as root" >&2; exit 1; }
end=$((SECONDS + ${1:-60} * 60))
. testdata/workdir.sh
export TMPDIR=$work SNAPDIFF_SOAK=1 SNAPDIFF_NO_SKIP=1 CGO_ENABLED=0
for ((round = 1; round == 1 || SECONDS < end; round++)); do
	echo "soak: round $round, $((SECONDS / 60)) minutes"
	go test -count=1 -p 2 -timeout 12h ./...
done
echo "soak: $((round - 1)) rounds passed in $((SECONDS / 60)) minutes"
