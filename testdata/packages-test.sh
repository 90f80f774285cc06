#!/bin/bash
# packages-test.sh DIST: installs the .deb that packaging/build.sh made into a folder of its own with the real dpkg, and tries
# what it brought: binary, manual, completions, units, configuration. As root. The machine itself is not changed.
set -euo pipefail
cd "$(dirname "$0")/.."
dist=$(realpath "${1:?packages-test.sh DIST}")
die() { echo "packages-test.sh: $*" >&2; exit 1; }
root=$(mktemp -d "${TMPDIR:-/tmp}/snapdiff-package.XXXXXX"); trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/var/lib/dpkg/{info,updates}; touch "$root/var/lib/dpkg/status"
deb=("$dist"/snapdiff_*_"$(dpkg --print-architecture)".deb)
[ ${#deb[@]} = 1 ] && [ -f "${deb[0]}" ] || die "no single package in $dist"
dpkg --root="$root" --log=/dev/null --force-not-root --force-script-chrootless -i "${deb[0]}" >/dev/null
bin=$root/usr/bin/snapdiff
[ "$("$bin" --version)" = "snapdiff $(git describe --tags --always --dirty) (commit $(git rev-parse --short=12 HEAD), $(go env GOVERSION), linux/$(go env GOARCH))" ] || die "the version is $("$bin" version)"
if readelf -d "$bin" | grep -q NEEDED; then die "the binary needs shared libraries"; fi
for page in snapdiff snapdiff-run snapdiff-mount snapdiff-restore snapdiff-dates; do
	MANWIDTH=80 man -l "$root/usr/share/man/man8/$page.8.gz" 2>/dev/null | grep -q DESCRIPTION || die "no manual page $page"
done
[ -s "$root/usr/share/doc/snapdiff/docs/grafana-dashboard.json" ] || die "no dashboard"
bash -n "$root/usr/share/bash-completion/completions/snapdiff"
out=$("$bin" --config "$root/etc/snapdiff/snapdiff.toml" run 2>&1) && die "the example configuration has a job" || [ $? = 2 ] || die "the example configuration is wrong: $out"
sed -n 's/^#\(\[jobs\|[a-z_]* *= \)/\1/p' "$root/etc/snapdiff/snapdiff.toml" > "$root/try.toml"
out=$("$bin" --config "$root/try.toml" status 2>&1) || die "what the example configuration has in comments is wrong: $out"
for unit in service timer; do
	sed "s|/usr/bin/snapdiff|$bin|" "$root/usr/lib/systemd/system/snapdiff.$unit" > "$root/snapdiff.$unit"
	! command -v systemd-analyze >/dev/null || out=$(systemd-analyze verify --man=no "$root/snapdiff.$unit" 2>&1) || die "snapdiff.$unit: $out"
done
dpkg --root="$root" --log=/dev/null --force-not-root --force-script-chrootless -P snapdiff >/dev/null
[ ! -e "$root/etc/snapdiff" ] && [ ! -e "$bin" ] || die "purging leaves files"
for rpm in "$dist"/*.rpm; do file "$rpm" | grep -q "RPM v3.0 bin" || die "$rpm is no package"; done
echo "packages: ${deb[0]##*/} installs, works and goes without a trace"
