#!/bin/bash
# recipes.sh SNAPDIFF [RECIPE...]: tries the recipes of docs/recipes.md with the real programs: ssh and rsync (sshd on loopback), tar, restic, borg,
# rsnapshot, Dovecot. As root on Debian, where it installs what is missing; services are started by it alone, on ports and in
# folders of its own, and stopped at its end. Not part of `make test`: it needs many packages.
set -euo pipefail
snapdiff=$(realpath "${1:?recipes.sh SNAPDIFF [RECIPE...]}"); shift
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "recipes.sh: it mounts filesystems: run it as root" >&2; exit 1; }
all=(second-host tar-over-ssh restic borg file-lists dovecot rsnapshot watcher new-disk)
wanted=("${@:-${all[@]}}")
packages=()
for pair in sshd:openssh-server restic:restic borg:borgbackup doveadm:dovecot-imapd rsnapshot:rsnapshot strace:strace; do
	PATH=$PATH:/usr/sbin command -v "${pair%%:*}" >/dev/null || packages+=("${pair#*:}")
done
if [ ${#packages[@]} != 0 ]; then
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi
testdata/need-tools.sh
. testdata/workdir.sh # work
stop=()
finish() { for pid in "${stop[@]}"; do kill "$pid" 2>/dev/null || true; done; sleep 0.2; take_down "$work"; }
trap finish EXIT
die() { echo "recipes.sh: $*" >&2; exit 1; }
snap() { "$snapdiff" --config "$work/snapdiff.toml" "$@"; }
# same A B: rsync finds no difference between two trees, contents and all attributes.
same() {
	local out
	out=$(rsync -aHAXn --delete --checksum --modify-window=-1 --itemize-changes --exclude=/.snapdiff "$1/" "$2/") || die "rsync cannot compare $1 and $2"
	[ -z "$out" ] || die "$1 and $2 differ:"$'\n'"$out"
}

# A mail store of 10 users with 100 messages on btrfs, and a backup disk.
truncate -s 1G "$work/source.img" "$work/disk.img" "$work/other.img"
mkfs.btrfs -q "$work/source.img" 2>/dev/null; mkfs.ext4 -q "$work/disk.img"; mkfs.xfs -q "$work/other.img"
mkdir "$work"/{source,disk,other}
for fs in source disk other; do mount -o loop "$work/$fs.img" "$work/$fs"; done
btrfs -q subvolume create "$work/source/mail"
mail=$work/source/mail store=$work/disk/mail tree=$work/disk/mail/tree
for user in {0..9}; do
	mkdir -p "$mail/user$user/Maildir"/{cur,new,tmp}
	for n in {100..199}; do printf 'From: a@example.org\nTo: user%s@example.org\nSubject: message %s\nMessage-ID: <%s.%s@example.org>\n\nAll is well.\n' $user $n $user $n > "$mail/user$user/Maildir/cur/1700000$n.M$n.host:2,S"; done
done
configure() { printf '[jobs.mail]\nsource = "%s"\nstore = "%s"\n%s\n' "$mail" "$store" "${1-}" > "$work/snapdiff.toml"; }
configure
snap init 2>/dev/null
snap run
# day N: a day of changes.
day() {
	printf 'Subject: new on day %s\n\nHello.\n' "$1" > "$mail/user$1/Maildir/new/18000000$1.M1.host"
	printf 'Subject: with a newline in its name\n\n' > "$mail/user$1/Maildir/cur/a"$'\n'"b$1"
	rm "$mail/user$1/Maildir/cur/1700000100.M100.host:2,S"
	mv "$mail/user$1/Maildir/cur/1700000101.M101.host:2,S" "$mail/user$1/Maildir/cur/1700000101.M101.host:2,RS"
	echo 'one more line' >> "$mail/user$1/Maildir/cur/1700000102.M102.host:2,S"
	ln "$mail/user$1/Maildir/cur/1700000103.M103.host:2,S" "$mail/user0/linked$1"
	mkdir -p "$mail/user$1/Maildir/.Sent/cur" "$mail/user$1/Maildir/.Old"; mv "$mail/user$1/Maildir/.Sent" "$mail/user$1/Maildir/.Gone$1"
	rmdir "$mail/user$1/Maildir/.Old"
	snap run
	same "$mail" "$tree"
}
changed_today=6 # names that restic and borg may read again after a day: new, with a newline, appended, renamed, both names of a link

start_sshd() {
	[ ! -e "$work/ssh" ] || return 0
	mkdir -m 700 "$work/ssh"; mkdir -p /run/sshd
	ssh-keygen -q -t ed25519 -N '' -f "$work/ssh/host"; ssh-keygen -q -t ed25519 -N '' -f "$work/ssh/key"
	cp "$work/ssh/key.pub" "$work/ssh/authorized"
	printf '%s\n' "Port 2299" "ListenAddress 127.0.0.1" "HostKey $work/ssh/host" "AuthorizedKeysFile $work/ssh/authorized" "PermitRootLogin yes" \
		"StrictModes no" "UsePAM no" "PidFile $work/ssh/pid" > "$work/ssh/config"
	/usr/sbin/sshd -D -f "$work/ssh/config" -E "$work/ssh/log" & stop+=($!)
	printf '#!/bin/sh\nexec ssh -q -p 2299 -i %s -o UserKnownHostsFile=%s -o StrictHostKeyChecking=no root@127.0.0.1 "$@"\n' "$work/ssh/key" "$work/ssh/known" > "$work/on-other"
	printf '#!/bin/sh\nshift\nexec %s "$@"\n' "$work/on-other" > "$work/rsh" # as rsync calls it: without the host
	chmod +x "$work/on-other" "$work/rsh"
	for _ in {1..50}; do "$work/on-other" true 2>/dev/null && return; sleep 0.1; done
	die "sshd does not answer: $(cat "$work/ssh/log")"
}

second-host() {
	start_sshd
	mkdir "$work/other/copy"
	rsync -aHAX -e "$work/rsh" "$tree/" "host:$work/other/copy/"
	snap diff 2>/dev/null >/dev/null || true
	local from; from=$(newest)
	day 1; day 2
	snap diff "$from" --format=deleted 2>/dev/null | "$work/on-other" "cd $work/other/copy && xargs -0 -r rm -rf --"
	snap diff "$from" --format=rsync 2>/dev/null | rsync -aHAX --ignore-times --modify-window=-1 --from0 --files-from=- -e "$work/rsh" "$tree/" "host:$work/other/copy/"
	same "$tree" "$work/other/copy"
}
newest() { snap list --json | tail -1 | sed 's/.*"run":"\(r[0-9]*\)".*/\1/'; }

tar-over-ssh() {
	start_sshd
	mkdir "$work/other/tarcopy"
	local extract="tar -x -p --numeric-owner --acls --xattrs --xattrs-include='*' -C $work/other/tarcopy" from
	snap tar latest 2>/dev/null | "$work/on-other" "$extract"
	same "$tree" "$work/other/tarcopy"
	from=$(newest)
	day 3
	snap tar latest --since "$from" --deleted "$work/went" 2>/dev/null > "$work/changes.tar"
	"$work/on-other" "cd $work/other/tarcopy && xargs -0 -r rm -rf --" < "$work/went"
	"$work/on-other" "$extract" < "$work/changes.tar"
	same "$tree" "$work/other/tarcopy"
}

# traced LOG CMD...: traces which files are read; reads LOG: of how many files of the mirror any content was read.
traced() { local log=$1; shift; strace -f -y -o "$log" -e trace=read,pread64 "$@"; }
reads() { grep -oE "(read|pread64)\([0-9]+<$tree/[^>]*>" "$1" | sed 's/.*<//' | sort -u | wc -l; }

restic() {
	export RESTIC_REPOSITORY=$work/other/restic RESTIC_PASSWORD=x RESTIC_CACHE_DIR=$work/other/restic-cache
	command restic init >/dev/null
	(cd "$tree" && command restic backup -q .)
	day 4
	local out
	out=$(cd "$tree" && traced "$work/restic.strace" restic backup --json . | grep '"message_type":"summary"')
	local new changed same_; new=$(field "$out" files_new) changed=$(field "$out" files_changed) same_=$(field "$out" files_unmodified)
	echo "  restic: $new new, $changed changed, $same_ not read again; files read: $(reads "$work/restic.strace")"
	[ $((new + changed)) -le $changed_today ] && [ "$same_" -gt 990 ] && [ "$(reads "$work/restic.strace")" -le $((changed_today + 2)) ] || die "restic reads what did not change: $out"
	command restic -q check
	mkdir "$work/other/restored"; command restic -q restore latest --target "$work/other/restored"
	touch -r "$tree" "$work/other/restored" # restic has no times of the top directory itself
	same "$tree" "$work/other/restored"
}
field() { sed "s/.*\"$2\":\([0-9]*\).*/\1/" <<<"$1"; }

borg() {
	export BORG_REPO=$work/other/borg BORG_BASE_DIR=$work/other/borg-base BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes
	command borg init -e none
	sleep 0.1; echo last > "$mail/user9/Maildir/new/last"; snap run # borg reads all files again that are as new as the newest of the archive before: only this one
	(cd "$tree" && command borg create --files-cache=ctime,size,inode ::one .)
	sleep 1 # borg forgets files that are as new as its archive
	day 5
	local read
	(cd "$tree" && traced "$work/borg.strace" borg create --files-cache=ctime,size,inode --list --filter=AMC ::two . 2> "$work/borg.list")
	read=$(grep -c '^[AMC] ' "$work/borg.list")
	echo "  borg: $read files new or changed; files read: $(reads "$work/borg.strace")"
	[ "$read" -ge 3 ] && [ "$read" -le $((changed_today + 1)) ] && [ "$(reads "$work/borg.strace")" -le $((changed_today + 2)) ] || die "borg reads what did not change: $(cat "$work/borg.list")"
	command borg check
}

file-lists() {
	snap diff --format=lines --rejects "$work/rejects" --absolute="$tree" 2>/dev/null > "$work/list"
	[ -s "$work/list" ] || die "the list is empty"
	while IFS= read -r path; do [ -e "$path" ] || [ -L "$path" ] || die "$path in the list is not in the mirror"; done < "$work/list"
	if grep -q $'[\x01-\x1f]' "$work/list"; then die "a control character is in the list"; fi
	[ "$(tr -cd '\0' < "$work/rejects" | wc -c)" -ge 1 ] || die "the name with a newline is nowhere"
}

dovecot() {
	mkdir -p "$work/dovecot"
	getent passwd vmail >/dev/null || useradd -r -M vmail
	chown -R vmail: "$mail"/user*; chmod 711 "$work"; snap run
	cat > "$work/dovecot.conf" <<-CONF
		base_dir = $work/dovecot/run
		state_dir = $work/dovecot/state
		log_path = $work/dovecot/log
		protocols =
		ssl = no
		mail_location = maildir:$mail/%u/Maildir
		first_valid_uid = 1
		userdb {
		  driver = static
		  args = uid=vmail gid=vmail home=$mail/%u
		}
		passdb {
		  driver = static
		  args = password=x
		}
	CONF
	/usr/sbin/dovecot -F -c "$work/dovecot.conf" & stop+=($!)
	local dov="doveadm -c $work/dovecot.conf"
	for _ in {1..50}; do [ -S "$work/dovecot/run/auth-userdb" ] && break; sleep 0.1; done
	local before after
	before=$($dov search -u user7 mailbox INBOX all | wc -l)
	snap run # as it was before the accident
	$dov expunge -u user7 mailbox INBOX all
	[ "$($dov search -u user7 mailbox INBOX all | wc -l)" = 0 ] || die "the accident did not happen"
	snap run
	rm -rf "$work/back"; mkdir "$work/back"
	local good; good=$(snap list --json | tail -2 | head -1 | sed 's/.*"run":"\(r[0-9]*\)".*/\1/')
	snap restore "$good" "$mail/user7/Maildir" "$work/back" 2>/dev/null
	$dov import -u user7 "maildir:$work/back/Maildir" "" mailbox INBOX
	after=$($dov search -u user7 mailbox INBOX all | wc -l)
	[ "$before" = "$after" ] && [ "$before" -gt 90 ] || die "user7 had $before messages and has $after"
	$dov fetch -u user7 'hdr.subject' mailbox INBOX subject 'message 150' | grep -q 'message 150' || die "a message is not what it was"
	echo "  dovecot: $after of $before messages of one mailbox came back"
	kill "${stop[-1]}"; sleep 0.3
	rm -rf "$mail"/user*/Maildir/dovecot*; snap run
}

rsnapshot() {
	mkdir -p "$work/disk/rsnapshot"
	printf 'config_version\t1.2\nsnapshot_root\t%s/\nno_create_root\t1\ncmd_rsync\t/usr/bin/rsync\ncmd_cp\t/bin/cp\nretain\tdaily\t3\nrsync_long_args\t--delete --numeric-ids --relative -HAX\nlockfile\t%s\nbackup\t%s/\thost/\n' \
		"$work/disk/rsnapshot" "$work/rsnapshot.pid" "$mail" > "$work/rsnapshot.conf"
	command rsnapshot -c "$work/rsnapshot.conf" daily 2>/dev/null
	printf 'Subject: between the two\n\n' > "$mail/user8/Maildir/new/between"
	chmod 640 "$mail/user8/Maildir/cur/1700000110.M110.host:2,S"
	command rsnapshot -c "$work/rsnapshot.conf" daily 2>/dev/null
	local copy=$work/disk/rsnapshot/daily.0/host$mail old=$work/disk/rsnapshot/daily.1/host$mail kept=$work/kept-aside
	cp -a "$old" "$kept"
	mkdir -m 700 "$work/disk/adopted"; mv "$copy" "$work/disk/adopted/tree"
	rm -rf "$work/disk/adopted/tree/.snapdiff"
	printf 'Subject: after the last\n\n' > "$mail/user8/Maildir/new/after"; rm "$mail/user8/Maildir/new/between"
	chmod 600 "$mail/user8/Maildir/cur/1700000111.M111.host:2,S"
	printf '[jobs.adopted]\nsource = "%s"\nstore = "%s"\nsnapshots = "%s"\n' "$mail" "$work/disk/adopted" "$work/source/snaps" > "$work/adopted.toml"
	mkdir -p "$work/source/snaps"
	"$snapdiff" --config "$work/adopted.toml" init --adopt 2>/dev/null
	local said; said=$("$snapdiff" --config "$work/adopted.toml" run --verbose 2>&1)
	echo "  rsnapshot: $(grep ' done: ' <<<"$said")"
	same "$mail" "$work/disk/adopted/tree"
	same "$kept" "$old" # what rsnapshot still has is linked with what was adopted, and stays as it was
	chmod 644 "$mail/user8/Maildir/cur/1700000112.M112.host:2,S"; echo more >> "$mail/user8/Maildir/cur/1700000113.M113.host:2,S"
	said=$("$snapdiff" --config "$work/adopted.toml" run 2>&1) && [ -z "$said" ] || die "the run after the adoption: $said"
	same "$mail" "$work/disk/adopted/tree"; same "$kept" "$old"
}

watcher() {
	printf '#!/bin/sh\nexec %s --config %s diff -j mail --format=null > %s/seen 2>/dev/null\n' "$snapdiff" "$work/snapdiff.toml" "$work" > "$work/handler"
	chmod +x "$work/handler"
	configure "[jobs.mail.hooks]
after_run = [\"$work/handler\"]"
	snap run # whatever was left
	mkdir -p "$mail/spool/a/b"; echo job > "$mail/spool/a/b/job"; mv "$mail/user9" "$mail/user9.moved"
	snap run
	tr '\0' '\n' < "$work/seen" > "$work/seen.lines"
	for name in spool/a/b/job user9.moved/Maildir/cur; do grep -qx "$name" "$work/seen.lines" || die "$name was not handed on: $(head "$work/seen.lines")"; done
	if grep -q '^user[0-8]/' "$work/seen.lines"; then die "more than what changed was handed on"; fi
	snap run; [ ! -s "$work/seen" ] || die "nothing changed, and something was handed on: $(tr '\0' '\n' < "$work/seen")"
	mv "$mail/user9.moved" "$mail/user9"
	configure
	snap run
}

new-disk() {
	local points point
	points=$(snap list --json | sed 's/.*"run":"\(r[0-9]*\)".*/\1/')
	mkdir "$work/before" "$work/after"
	for point in $points; do snap restore "$point" "$mail" "$work/before/$point" 2>/dev/null >/dev/null; done
	rsync -aHAX --numeric-ids "$store/" "$work/other/mail/"
	mv "$store" "$store.old"
	store=$work/other/mail tree=$store/tree
	configure
	snap check > "$work/check" || die "check: $(cat "$work/check")"
	for point in $points; do
		snap restore "$point" "$mail" "$work/after/$point" 2>/dev/null >/dev/null
		same "$work/before/$point" "$work/after/$point"
	done
	day 6
	[ "$(snap list --json | tail -1 | sed 's/.*"how":"\([a-z]*\)".*/\1/')" = native ] || die "the first run from the new disk was not native"
	snap verify
	echo "  new disk: $(wc -w <<<"$points") restore points came along, the next run was native"
}

for recipe in "${wanted[@]}"; do
	declare -F "$recipe" >/dev/null || die "no recipe $recipe; there are: ${all[*]}"
	echo "$recipe"
	"$recipe"
done
echo "recipes: all of ${wanted[*]} work"
