#!/bin/bash
# Builds the test machine: Debian 12's User-Mode Linux kernel with OpenZFS and LVM tools, from Debian packages, into
# $TESTVM_CACHE (default ~/.cache/snapdiff-testvm). Does nothing when it is up to date (a hash of these scripts and the
# versions says so). Needs Debian 12 on amd64; root only to install missing build packages. About 3 minutes on two cores,
# 130 MB. docs/testing.md tells what it is for.
set -euo pipefail
LAB=$(cd "$(dirname "$0")"; pwd)
C=${TESTVM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/snapdiff-testvm}
J=${JOBS:-$(nproc)}
ZFS=${ZFS_VERSION:-2.3.2-2~bpo12+2}        # 2.2 or later: ARCH=um support
TOOLS="bash coreutils zfsutils-linux lvm2 thin-provisioning-tools xfsprogs btrfs-progs e2fsprogs rsync busybox-static util-linux mount fdisk kmod attr acl strace grep sed gawk findutils diffutils tar procps"
say() { printf '[%4ds] test machine: %s\n' $((SECONDS-T0)) "$*" >&2; }
stop() { echo "testvm/build.sh: $*" >&2; exit 1; }
trap 'echo "testvm/build.sh: failed at line $LINENO; logs are in $C" >&2' ERR
mkdir -p "$C"; T0=$SECONDS
exec 8>"$C/lock"; flock 8        # one build at a time

# What the guest starts with changes without building anything anew; machines that run meanwhile must not see half a file.
settings() { local f; for f in init:umlinit lvm.conf:etc/lvm/lvm.conf; do
  cmp -s "$LAB/src/${f%:*}" "$C/root/${f#*:}" || { cp "$LAB/src/${f%:*}" "$C/root/new"; mv "$C/root/new" "$C/root/${f#*:}"; }; done
  [ -s "$C/root/etc/ld.so.cache" ] || ldconfig -r "$C/root" || true; } # without it each program looks for its libraries in 50 places
stamp="v1 $ZFS $(cat "$LAB/build.sh" "$LAB"/src/*.c "$LAB"/src/*.py | sha256sum | cut -c1-16)"
[ "$(cat "$C/stamp" 2>/dev/null)" = "$stamp" ] && { settings; say "up to date"; exit 0; }

(. /etc/os-release; [ "$ID $VERSION_ID" = "debian 12" ] && [ "$(dpkg --print-architecture)" = amd64 ]) 2>/dev/null ||
  stop "it is made of packages of Debian 12 on amd64, and this is another system"
need() { local miss=(); for p in "$@"; do dpkg -s "$p" >/dev/null 2>&1 || miss+=("$p"); done
  [ ${#miss[@]} = 0 ] || [ "$(id -u)" = 0 ] || stop "as root: apt-get install ${miss[*]}"
  [ ${#miss[@]} = 0 ] || { apt-get update -qq || true; apt-get install -y -qq --no-install-recommends "${miss[@]}" >/dev/null; }; }
say "building it once into $C, about 3 minutes"
need gcc make flex bison bc libc6-dev python3 xz-utils

# A private apt: own lists and an empty dpkg status, so that the machine's configuration stays as it is. The mirror is the one
# that the machine already uses; 'contrib' and bookworm-backports are added.
A=$C/apt; mkdir -p "$A/lists/partial" "$A/archives/partial"; : > "$A/status"
targets=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages')
[ -n "$targets" ] || { apt-get update -qq; targets=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages'); }
mirror=$(awk '$2=="bookworm" && $3=="main" {print $1; exit}' <<<"$targets")
security=$(awk '$2=="bookworm-security" && $3=="main" {print $1; exit}' <<<"$targets")
[ -n "$mirror" ] || { stop "no bookworm main in apt's sources"; }
key='[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]'
{ for s in bookworm bookworm-updates bookworm-backports; do echo "deb $key $mirror $s main contrib"; done
  [ -z "$security" ] || echo "deb $key $security bookworm-security main contrib"; } > "$A/sources.list"
AO=(-o Dir::State="$A" -o Dir::State::lists="$A/lists" -o Dir::State::status="$A/status" -o Dir::Cache="$A" -o Dir::Cache::archives="$A/archives"
  -o Dir::Etc::sourcelist="$A/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
  -o APT::Sandbox::User=root -o APT::Install-Recommends=0 -o Debug::NoLocking=1 -o APT::Keep-Downloaded-Packages=true -o Acquire::Languages=none)
fetch() { (mkdir -p "$1"; cd "$1"; shift; apt-get "${AO[@]}" -qq download "$@"); }      # DIR PACKAGE[=VERSION]...
unpack() { local d=$1; shift; mkdir -p "$d"; for f in "$@"; do dpkg-deb -x "$f" "$d"; done; }
say "apt update"; apt-get "${AO[@]}" -qq update

W=$C/work R=$C/root; rm -rf "$W" "$R" "$C/stamp"; mkdir -p "$W"
say "kernel"; fetch "$W" user-mode-linux; unpack "$W/uml" "$W"/user-mode-linux_*.deb
K=$(basename "$W"/uml/usr/lib/uml/modules/*)
V=$(apt-cache "${AO[@]}" madison linux-source-6.1 | awk -v k="$K-" 'index($3,k)==1{print $3; exit}')
[ -n "$V" ] || { stop "no linux-source-6.1 for kernel $K"; }
fetch "$W" "linux-source-6.1=$V"; mkdir "$W/src"
dpkg-deb --fsys-tarfile "$W"/linux-source-6.1_*.deb | tar -xO ./usr/src/linux-source-6.1.tar.xz | xz -dc -T0 | tar -x -C "$W/src" --strip-components=1 \
  --exclude='*/Documentation/[a-jl-z]*' --exclude='*/drivers/*.[chS]' --exclude='*/sound/*.[chS]' --exclude='*/tools/testing' --exclude='*/drivers/gpu/*/*/*.h' --exclude='*/arch/*/boot/dts'
zcat "$W/uml/usr/share/doc/user-mode-linux/config.gz" > "$W/src/.config"
make -s -C "$W/src" ARCH=um olddefconfig; make -s -C "$W/src" ARCH=um -j"$J" modules_prepare >/dev/null
[ "$(make -s -C "$W/src" ARCH=um kernelrelease)" = "$K" ]
python3 "$LAB/src/ksymvers.py" "$W/uml/usr/bin/linux.uml" > "$W/src/Module.symvers"

say "OpenZFS $ZFS"; fetch "$W" "zfs-dkms=$ZFS"; unpack "$W/zfs" "$W"/zfs-dkms_*.deb; Z=$(echo "$W"/zfs/usr/src/zfs-*)
(cd "$Z"; touch aclocal.m4 configure; find . -name Makefile.in -exec touch {} +; touch zfs_config.h.in; rm -f config.status
  KERNEL_ARCH=um ./configure -q --prefix=/usr --with-config=kernel --with-linux="$W/src" --with-linux-obj="$W/src") > "$C/configure.log" 2>&1
make -s -C "$Z" -j"$J" KERNEL_ARCH=um > "$C/make.log" 2>&1

say "guest tree"; mkdir -p "$R" "$W/debs/partial"
pin=(); for p in zfsutils-linux libzfs6linux libzpool6linux libnvpair3linux libuutil3linux; do pin+=("$p=$ZFS"); done
apt-get "${AO[@]}" -o Dir::Cache::archives="$W/debs" -qq -y --download-only install $TOOLS "${pin[@]}" >/dev/null
rm -f "$W"/debs/{perl,libperl,python3,libpython3,libicu,media-types}*.deb
unpack "$R" "$W"/debs/*.deb
(cd "$R"; rm -rf usr/share/{doc,man,locale,perl*,python3,lintian,info,menu,zoneinfo,bash-completion,icu} usr/bin/perl* usr/lib/x86_64-linux-gnu/{perl*,gconv} usr/sbin/xfs_scrub lib/udev lib/systemd usr/lib/systemd var/lib/dpkg usr/share/initramfs-tools)
ln -sf bash "$R/bin/sh"; ln -sf gawk "$R/usr/bin/awk"; mkdir -p "$R"/{host,mnt,dev,proc,sys,run,tmp,etc/lvm}; ln -sf /proc/self/mounts "$R/etc/mtab"
echo root:x:0:0:root:/root:/bin/bash > "$R/etc/passwd"; echo root:x:0: > "$R/etc/group"; settings
M=$R/lib/modules/$K; mkdir -p "$M/extra"
(cd "$W/uml/usr/lib/uml/modules/$K"; tar -c modules.builtin modules.builtin.modinfo modules.order kernel/drivers/md kernel/drivers/block kernel/fs/fuse kernel/fs/overlayfs kernel/lib kernel/crypto 2>/dev/null || true) | tar -x -C "$M"
find "$Z/module" -name '*.ko' -exec cp {} "$M/extra/" \;; strip -g "$M"/extra/*.ko
ln -sf "$R/bin/kmod" "$C/depmod"; LD_LIBRARY_PATH=$R/lib/x86_64-linux-gnu:$R/usr/lib/x86_64-linux-gnu "$C/depmod" -b "$R" "$K"
cp "$W/uml/usr/bin/linux.uml" "$C/"; gcc -O2 -Wall -shared -fPIC -o "$C/preload.so" "$LAB"/src/*.c; rm -rf "$W"; echo "$stamp" > "$C/stamp"; say "done"
