#!/bin/bash
# test.sh all|host: every check of the project; exit status 0 only if all of it ran and passed.
# all:  root only; nothing may be skipped; ZFS and LVM run in the test machine (testdata/testvm).
# host: what runs without the test machine, and without root; says what was not tested.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-all}
start=$SECONDS
say() { printf '[%4ds] %s\n' $((SECONDS - start)) "$*"; }
die() { printf 'test.sh: %s\n' "$@" >&2; exit 1; }

allow=() # reasons for which a test may skip itself here
if [ "$what" = host ]; then allow=(-allow "needs ZFS" -allow "needs LVM"); else export SNAPDIFF_NO_SKIP=1; fi
if [ "$(id -u)" != 0 ]; then
	[ "$what" = host ] || die "the tests make and mount filesystems: run 'sudo make test'." \
		"'make test-host' runs what needs no root, on purpose; no source or mirror filesystem is tested then."
	allow+=(-allow "needs root")
fi
. testdata/workdir.sh # work: a folder of this run's own; everything in it is unmounted, detached and removed at the end
# One seed for the host and the test machine: what a test skips here under a name that the seed chose must pass there.
export SNAPDIFF_SEED=${SNAPDIFF_SEED:-$((SRANDOM % 1000000000))}
export TMPDIR=$work/tmp GOFLAGS="${GOFLAGS:-} -buildvcs=false"
mkdir "$TMPDIR"
results=$work/results
mkdir "$results"

testdata/need-tools.sh
say "seed: SNAPDIFF_SEED=$SNAPDIFF_SEED"
say "gofmt, vet, build without cgo"
unformatted=$(gofmt -l $(git ls-files '*.go'))
[ -z "$unformatted" ] || die "gofmt would change:" "$unformatted"
CGO_ENABLED=0 go build ./...
CGO_ENABLED=0 GOARCH=arm64 go build -o /dev/null ./cmd/snapdiff # packages are made for both
extra="./testdata/skipcheck" # `./...` leaves folders named testdata out
go vet ./... $extra
go build -o "$work/skipcheck" $extra

if [ "$what" = all ]; then
	testdata/testvm/build.sh && VM_TIMEOUT=60 testdata/testvm/run.sh true ||
		die "the test machine cannot be built or does not start (above; it needs Debian 12, ptrace and room in /dev/shm)." \
			"Without it no test of ZFS or LVM sources runs. If that is what you want, on purpose: make test-host"
fi

# run NAME FLAGS... -- PACKAGES...: results into NAME.json, a line per package on the terminal. Never stops the script:
# the judge at the end reads the results.
run() {
	local name=$1 flags=(); shift
	while [ "$1" != -- ]; do flags+=("$1"); shift; done; shift
	[ $# != 0 ] || return 0
	say "$name tests"
	go test -json -count=1 -p 2 -timeout 30m "${flags[@]}" "$@" 2>&1 | tee "$results/$name.json" | "$work/skipcheck" -follow || true
}

# Beside the tests with the race detector go those that need none (testdata/no-race.txt): they would be the last by far.
packages=($(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./... $extra))
no_race="^($(sed '/^#/d' testdata/no-race.txt | cut -d' ' -f2 | paste -sd '|'))\$"
CGO_ENABLED=0 run plain -run "$no_race" -- $(sed '/^#/d' testdata/no-race.txt | cut -d' ' -f1 | sort -u) &
CGO_ENABLED=1 run race -race -skip "$no_race" -- "${packages[@]}"
wait
if [ "$what" = all ]; then
	say "tests in the test machine"
	testdata/testvm/test.sh "$results" "$work/skipcheck" || true
fi

"$work/skipcheck" "${allow[@]}" "$results"/*.json && rc=0 || rc=$?
[ "$what" = all ] || say "NOT tested: ZFS and LVM sources, and without root no filesystem at all; make test does"
say "done, status $rc"
exit $rc
