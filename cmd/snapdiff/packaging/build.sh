#!/bin/bash
# build.sh DIST: static binaries and packages (.deb, .rpm) for amd64 and arm64 into DIST. The version is that of git describe.
set -euo pipefail
cd "$(dirname "$0")/../../.."
nfpm=github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.43.0
DIST=$(realpath -m "${1:?build.sh DIST}")
described=$(git describe --tags --always --dirty 2>/dev/null || echo unknown)
case $described in v[0-9]*) VERSION=${described#v} ;; *) VERSION=0.0.0-$described ;; esac
export DIST VERSION MAINTAINER="${MAINTAINER:-snapdiff <root@localhost>}"
mkdir -p "$DIST/doc"
host=$(go env GOARCH)
for ARCH in amd64 arm64; do
	mkdir -p "$DIST/bin/$ARCH"
	CGO_ENABLED=0 GOARCH=$ARCH go build -buildvcs=false -trimpath -ldflags "-s -w -X main.version=$described -X main.commit=$(git rev-parse HEAD)" -o "$DIST/bin/$ARCH/snapdiff" ./cmd/snapdiff
done
"$DIST/bin/$host/snapdiff" man "$DIST/doc"
gzip -9nf "$DIST"/doc/*.8
for ARCH in amd64 arm64; do
	export ARCH
	for packager in deb rpm; do
		GOFLAGS=-mod=mod go run "$nfpm" package -f cmd/snapdiff/packaging/nfpm.yaml -p $packager -t "$DIST/"
	done
done
