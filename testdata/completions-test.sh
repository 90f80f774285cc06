#!/bin/bash
# completions-test.sh SNAPDIFF: tries in the real bash, zsh and fish what the completions offer: commands, flags, jobs, restore points.
# As root on Debian, where it installs the shells that are missing. Not part of `make test`, which needs no other shell.
set -euo pipefail
snapdiff=$(realpath "${1:?completions-test.sh SNAPDIFF}")
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "completions-test.sh: it mounts a filesystem: run it as root" >&2; exit 1; }
packages=()
for shell in zsh fish; do command -v $shell >/dev/null || packages+=($shell); done
[ -e /usr/share/bash-completion/bash_completion ] || packages+=(bash-completion)
if [ ${#packages[@]} != 0 ]; then
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi
testdata/need-tools.sh
. testdata/workdir.sh # work
trap 'take_down "$work"' EXIT
die() { echo "completions-test.sh: $*" >&2; exit 1; }

# Two jobs; that of mail has two restore points. The binary is found by its name, as in a shell of its user.
truncate -s 512M "$work/source.img"
mkfs.btrfs -q "$work/source.img" >/dev/null 2>&1
mkdir "$work/source" "$work/bin" "$work/files"
mount -o loop "$work/source.img" "$work/source"
btrfs -q subvolume create "$work/source/mail"
ln -s "$snapdiff" "$work/bin/snapdiff"
export PATH=$work/bin:$PATH config=$work/snapdiff.toml
printf '[jobs.%s]\nsource = "%s"\nstore = "%s"\n' mail "$work/source/mail" "$work/store" movies "$work/source/mail" "$work/store2" > "$config"
snapdiff --config "$config" init mail 2>/dev/null
snapdiff --config "$config" run mail
touch "$work/source/mail/new"
snapdiff --config "$config" run mail
snapdiff man "$work/files"

# Each shell gets a command line and prints what it offers for its last word, one a line.
in_bash() {
	# Outside of a real completion compopt only complains.
	bash -c 'compopt() { :; }; . /usr/share/bash-completion/bash_completion; . "$1"
		COMP_LINE=$2 COMP_POINT=${#2} COMP_TYPE=63 COMP_KEY=9
		eval "COMP_WORDS=($2)"; [[ $2 == *\  ]] && COMP_WORDS+=(""); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
		__start_snapdiff; printf "%s\n" "${COMPREPLY[@]}"' bash "$work/files/snapdiff.bash" "$1"
}
in_fish() { HOME=$work fish --no-config -c 'source $argv[1]; complete -C $argv[2]' "$work/files/snapdiff.fish" "$1"; }
# A zsh on a terminal: Tab completes, a second one lists.
in_zsh() {
	zsh -f -c 'zmodload zsh/zpty; zpty z "TERM=dumb COLUMNS=200 LINES=100 zsh -f -i"
		zpty -w z "PS1=; fpath=($1 \$fpath); autoload -Uz compinit; compinit -u -D; setopt nobeep autolist noautomenu; LISTMAX=1000; print rea\dy"
		until zpty -r z line && [[ $line == *ready* ]]; do :; done
		zpty -w -n z "$2"$'"'\\t\\t'"'; sleep 1.5; zpty -w -n z $'"'\\C-a'"'"print -r -- \"[ \"\"<\" "$'"'\\C-e'"'" \">\""$'"'\\n'"'; sleep 0.5
		while zpty -r -t z line; do print -r -- "$line"; done; zpty -d z' zsh "$work/files" "$1" | tr '\r' '\n'
}
# offers SHELL LINE WORD...: all words are offered; a word after ! is not.
offers() {
	local shell=$1 line=$2 out word; shift 2
	out=$(in_"$shell" "$line") || die "$shell fails: $out"
	for word in "$@"; do
		case $word in
		!*) ! grep -qE "(^|[[:space:]])${word#!}([[:space:]]|\$)" <<<"$out" || die "$shell offers ${word#!} for '$line':"$'\n'"$out" ;;
		*) grep -qE "(^|[[:space:]])$word([[:space:]]|\$)" <<<"$out" || die "$shell does not offer $word for '$line':"$'\n'"$out" ;;
		esac
	done
}
for shell in bash fish zsh; do
	offers $shell "snapdiff re" release restore !run
	offers $shell "snapdiff --config $config run m" mail movies
	offers $shell "snapdiff --config $config run mail m" movies
	offers $shell "snapdiff --config $config restore -j m" mail movies
	offers $shell "snapdiff --config $config restore -j mail " latest yesterday r1 r2
	offers $shell "snapdiff run --fu" --full
done
echo "completions: bash, zsh and fish offer commands, flags, jobs and restore points"
