#!/bin/bash
# testvm/test.sh RESULTS SKIPCHECK: runs what testdata/testvm/tests lists in the test machine, two machines side by side
# where there are two CPUs; leaves vm-*.json in RESULTS. All of it together has 15 minutes.
set -euo pipefail
here=$(cd "$(dirname "$0")"; pwd)
cd "$here/../.."
results=$1 skipcheck=$2 n=0
export CGO_ENABLED=0 here results skipcheck
one() { # NUMBER PACKAGE REGEXP
	go test -json -count=1 -timeout 10m -exec "$here/gotest-exec.sh" -run "$3" "$2" 2>&1 | tee "$results/vm-$1.json" | "$skipcheck" -follow
}
export -f one
grep -v '^#' "$here/tests" | while read -r package regexp; do
	[ -z "$package" ] || printf '%s\0' "$((n += 1))" "$package" "${regexp:-.}"
done | timeout -k 10 900 xargs -0 -n 3 -P 2 bash -c 'one "$@"' one
