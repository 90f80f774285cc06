#!/bin/bash
# shell.sh: a shell as root in the test machine, in the project's folder (the host's, read and write); `exit` ends it.
cd "$(dirname "$0")/../.."
echo "zpool, zfs, lvcreate, mkfs.* are here (modprobe zfs, dm-thin-pool, dm-snapshot); scratch disks are /dev/ubda and /dev/ubdb" >&2
stty raw -echo 2>/dev/null; trap 'stty sane 2>/dev/null' EXIT # the guest's terminal does the editing
VM_TTY=1 VM_TIMEOUT=86400 testdata/testvm/run.sh 'exec setsid -c bash -i </dev/tty1 >/dev/tty1 2>&1'
