#!/bin/sh
# need-go.sh prints the folder of a `go` command that is new enough for go.mod. Looks in PATH, in /usr/local/go and in the
# cache; else downloads Go into the cache (no root needed for that) and checks its SHA-256. Messages go to standard error.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
want=$(sed -n 's/^go \([0-9]*\.[0-9]*\).*/\1/p' "$top/go.mod")
get=go1.26.8
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/snapdiff-go

say() { echo "need-go: $*" >&2; }
die() {
	say "$*"
	say "Go $want or newer is needed: unpack it from https://go.dev/dl/ into /usr/local/go, or put it first in PATH, and run make again."
	exit 1
}

# new_enough GO: whether this go command itself satisfies go.mod; make lets none switch to another toolchain.
new_enough() {
	v=$(cd "$top" && GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null) || return 1
	v=${v#go}; major=${v%%.*}; minor=${v#*.}; minor=${minor%%[!0-9]*}
	[ "$major" -gt "${want%.*}" ] || { [ "$major" -eq "${want%.*}" ] && [ "$minor" -ge "${want#*.}" ]; }
}

# has COMMAND PACKAGE: the command is there, or root can install it.
has() {
	command -v "$1" >/dev/null && return
	[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
	{ apt-get install -y -qq --no-install-recommends "$2" || { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$2"; }; } >/dev/null 2>&1
}

download() { # URL FILE
	if has curl curl; then curl -fsSL --retry 2 --connect-timeout 15 -o "$2" "$1"
	elif command -v wget >/dev/null; then wget -q -O "$2" "$1"
	else die "neither curl nor wget is here to download $get"; fi
}

checked() { echo "$2  $1" | sha256sum -c --status; } # FILE SHA256

# The Go project publishes its toolchains as module zips too. Their hashes stand here, from zips that `go mod download` had
# checked against sum.golang.org.
from_proxy() {
	case $arch in
	amd64) sum=30c2b1bf7dcc88d3eb0a1364e47ddd9128edb3110a30e8a0ef61cd5856b31de7 ;;
	arm64) sum=02b36b6787b3ac767668f630e2998df45a3b1f9ffee08d1bf3ef6487cd658d99 ;;
	*) return 1 ;;
	esac
	has unzip unzip || return 1
	proxy=${GOPROXY:-https://proxy.golang.org}; proxy=${proxy%%[,|]*}
	case $proxy in http*) ;; *) proxy=https://proxy.golang.org ;; esac
	download "$proxy/golang.org/toolchain/@v/v0.0.1-$get.linux-$arch.zip" "$tmp/go.zip" || return 1
	checked "$tmp/go.zip" "$sum" || { say "$proxy gave a file with a wrong checksum"; return 1; }
	unzip -q "$tmp/go.zip" -d "$tmp/x"
	mv "$tmp/x/golang.org/toolchain@v0.0.1-$get.linux-$arch" "$tmp/go"
	chmod -R u+w "$tmp/go"
	chmod +x "$tmp"/go/bin/* "$tmp"/go/pkg/tool/*/*
}

from_site() {
	download "https://dl.google.com/go/$get.linux-$arch.tar.gz.sha256" "$tmp/sum" || return 1
	download "https://dl.google.com/go/$get.linux-$arch.tar.gz" "$tmp/go.tar.gz" || return 1
	checked "$tmp/go.tar.gz" "$(cut -c1-64 "$tmp/sum")" || { say "dl.google.com gave a file with a wrong checksum"; return 1; }
	tar -xzf "$tmp/go.tar.gz" -C "$tmp"
}

for go in go /usr/local/go/bin/go "$cache/$get/bin/go"; do
	path=$(command -v "$go") || continue
	new_enough "$path" && { dirname "$path"; exit; }
done

case $(uname -sm) in
"Linux x86_64") arch=amd64 ;;
"Linux aarch64") arch=arm64 ;;
*) die "no Go that is new enough, and no download known for $(uname -sm)" ;;
esac
say "no Go $want here: downloading $get into $cache (70 MB)"
mkdir -p "$cache"
tmp=$(mktemp -d "$cache/tmp.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
from_proxy || from_site || die "the download failed"
[ -e "$cache/$get" ] || mv "$tmp/go" "$cache/$get"
new_enough "$cache/$get/bin/go" || die "the Go in $cache/$get does not run"
echo "$cache/$get/bin"
