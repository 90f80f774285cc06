# Sourced by scripts: sets work to a new folder below /tmp, which is taken down at exit whatever happened: what is mounted
# below it is unmounted (by force: who serves a mount may be dead), loop devices on its files are detached, it is removed.
# Folders that killed runs left go first.

# take_down DIR: children before parents; lazily where something still holds on.
take_down() {
	local dir=$1 m dev
	if [ "$(id -u)" = 0 ]; then
		while read -r m; do umount -f "$m" 2>/dev/null || umount -l "$m" || true; done \
			< <(awk -v d="$dir/" 'index($2, d) == 1 {print $2}' /proc/self/mounts | tac | while read -r m; do printf '%b\n' "$m"; done)
		while read -r dev; do losetup -d "$dev" || true; done \
			< <(losetup -ln -O NAME,BACK-FILE 2>/dev/null | awk -v d="$dir/" 'index($2, d) == 1 {print $1}')
	fi
	rm -rf --one-file-system "$dir"
}

for old in /tmp/snapdiff-test.*; do
	pid=${old#/tmp/snapdiff-test.}; pid=${pid%%.*}
	[ -d "$old" ] && [ -O "$old" ] && ! [ -d "/proc/$pid" ] && take_down "$old"
done
work=$(mktemp -d "/tmp/snapdiff-test.$$.XXXXXX")
trap 'take_down "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
