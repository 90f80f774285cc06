#!/bin/bash
# fuzz.sh [SECONDS]: every fuzz target of the project for so long (default 60). What fails leaves an input below the package's
# testdata/fuzz: commit it with the fix.
set -euo pipefail
cd "$(dirname "$0")/.."
for p in $(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./...); do
	for target in $(CGO_ENABLED=0 go test -list '^Fuzz' "$p" | grep '^Fuzz' || true); do
		echo "fuzz: $p $target"
		CGO_ENABLED=0 go test -run '^$' -fuzz "^$target\$" -fuzztime "${1:-60}s" -fuzzminimizetime 100x "$p"
	done
done
