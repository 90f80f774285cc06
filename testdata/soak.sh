#!/bin/bash
# soak.sh [MINUTES]: all tests in their long form (SNAPDIFF_SOAK=1), one after another in random order, on the host and, beside it, in the
# test machine what testdata/testvm/tests lists; with new random seeds again and again until the minutes are over (default 60). A test that
# takes more than a tenth of them is stopped then, so that no one takes all the time: many go on with random rounds for hours, each of
# which is judged. What a test that fails prints tells the seed to replay (docs/testing.md); the others go on. At the end docs/soak.md
# says what was run, stopped and failed. Exit status 1 if anything failed.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "soak.sh: the tests mount filesystems: run as root" >&2; exit 1; }
minutes=${1:-60} end=$((SECONDS + ${1:-60} * 60))
limit=$((minutes * 6 > 120 ? minutes * 6 : 120)) # seconds
commit=$(git describe --always --dirty)
testdata/testvm/build.sh
. testdata/workdir.sh
export SNAPDIFF_SOAK=1 CGO_ENABLED=0 VM_TIMEOUT=86400
exec_in_vm=(-exec "$PWD/testdata/testvm/gotest-exec.sh")

# The tests of each side, a line each: PACKAGE, regexp for -run.
tests_in() { # PACKAGE REGEXP[/REGEXP of subtests]
	local top=${2%%/*} below=
	[ "$top" = "$2" ] || below=/${2#*/}
	go test -list "$top" "$1" | grep '^Test' | sed "s|.*|$1 ^&\$$below|"
}
list_host() { local p; for p in $(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./...); do tests_in "$p" .; done; }
list_guest() { local p r; grep -v '^#' testdata/testvm/tests | while read -r p r; do tests_in "$p" "${r:-.}"; done; }
run_host() { exec timeout -k 30 "$limit" go test -count=1 -timeout 24h -run "$2" "$1"; }
run_guest() { exec timeout -k 30 "$limit" go test -count=1 -timeout 24h "${exec_in_vm[@]}" -run "$2" "$1"; }

# soak SIDE: runs its tests over and over. $work/SIDE.passed and $work/SIDE.stopped have a line for each that passed or was stopped.
soak() {
	local package regexp out=$work/$1.out status child=
	export TMPDIR=$work/$1
	trap '[ -z "$child" ] || kill -TERM -- "-$child"; exit 143' TERM # timeout has a process group of its own
	for ((round = 1; ; round++)); do
		while read -r package regexp <&3; do
			echo "soak: $1: $((SECONDS / 60)) min: $package $regexp"
			echo "$package $regexp" >"$work/$1.now"
			mkdir -p "$TMPDIR"
			"run_$1" "$package" "$regexp" >"$out" 2>&1 </dev/null & child=$!
			wait "$child" && status=0 || status=$?
			child=
			if [ $status = 0 ]; then
				echo "$package $regexp" >>"$work/$1.passed"
			elif [ $status = 124 ] && ! grep -q -e '^ *--- FAIL' -e '^panic:' "$out"; then
				echo "$package $regexp" >>"$work/$1.stopped"
			else
				cat "$out"
				echo "soak: $1: FAILED: SNAPDIFF_SOAK=1 go test -run '$regexp' $package"
				echo "$package $regexp" >>"$work/failed"
			fi
			take_down "$TMPDIR"
		done 3< <(shuf "$work/$1.list")
	done
}

# report: docs/soak.md.
report() {
	local side what p n
	cat <<-END
		# The last long test

		Written by \`make soak MINUTES=$minutes\` of $commit. Tests were run in their long form and in random order, each with a new random seed;
		those that had not ended after $((limit / 60)) minutes were stopped. **$1**

		| where | package | tests in it | of these ended well | times in all | stopped, and had said nothing of a failure |
		| --- | --- | ---: | ---: | ---: | --- |
	END
	for side in host guest; do
		what=host; [ $side = host ] || what='test machine'
		touch "$work/$side".{passed,stopped}
		cut -d' ' -f1 "$work/$side.list" | sort | uniq -c | while read -r n p; do
			printf '| %s | `%s` | %d | %d | %d | %s |\n' "$what" "${p#./}" "$n" "$(lines passed "$p" | sort -u | wc -l)" "$(lines passed "$p" | wc -l)" \
				"$(lines stopped "$p" | cut -d' ' -f2 | sort -u | tr -d '^$' | tr '\n' ' ')"
		done
	done
}
lines() { grep "^$2 " "$work/$side.$1" || true; }

list_host >"$work/host.list"
list_guest >"$work/guest.list"
set -m # each of the two has a process group, which is stopped whole
soak host & host=$!
soak guest & guest=$!
set +m
trap 'kill -TERM -- -$host -$guest 2>/dev/null; wait; take_down "$work"' EXIT
while ((SECONDS < end)); do sleep 2; done
result="Nothing failed."
[ ! -s "$work/failed" ] || result="$(wc -l <"$work/failed") failed: $(sort "$work/failed" | uniq -c | tr -s ' \n' ' ' | tr -d '^$')"
echo "soak: $minutes minutes are over. $result What is under way is stopped, and does not count"
report "$result" >docs/soak.md
[ ! -s "$work/failed" ]
