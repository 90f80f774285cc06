#!/bin/bash
# Makes the captures beside it, in the test machine: testdata/testvm/run.sh snapshot/lvm/testdata/capture.sh
# cow.gz: the start of the store of a classic snapshot (chunks of 4 KiB) after writes to chunks 10, 12, 14 ... 608 of its
# origin. delta.xml, delta-verbose.xml: thin_delta of two snapshots between which blocks 4 and 5 were written, 20 was written
# first and 8 was discarded.
set -e
cd "$(dirname "$0")"
for m in dm-mod dm-thin-pool dm-snapshot; do modprobe $m; done
pvcreate -q /dev/ubda; vgcreate -q vg /dev/ubda
lvcreate -q -y -Zy -Wy -L 16M -n origin vg; lvcreate -q -s -c 4k -l 100%ORIGIN -n snap vg/origin
for ((i = 10; i <= 608; i += 2)); do dd if=/dev/zero of=/dev/vg/origin bs=4k seek=$i count=1 oflag=direct conv=notrunc status=none; done
dd if=/dev/mapper/vg-snap-cow bs=4k count=320 iflag=direct status=none | busybox gzip -9 -c >cow.gz
lvcreate -q -L 64M -c 64k -T vg/pool; lvcreate -q -V 64M -T vg/pool -n thin
dd if=/dev/urandom of=/dev/vg/thin bs=64k count=16 oflag=direct status=none
lvcreate -q -s -n a vg/thin
dd if=/dev/urandom of=/dev/vg/thin bs=64k seek=4 count=2 oflag=direct status=none
dd if=/dev/urandom of=/dev/vg/thin bs=64k seek=20 count=1 oflag=direct status=none
blkdiscard -o $((8 << 16)) -l 65536 /dev/vg/thin
lvcreate -q -s -n b vg/thin
dmsetup message vg-pool-tpool 0 reserve_metadata_snap
thin_delta -m --thin1 2 --thin2 3 /dev/mapper/vg-pool_tmeta >delta.xml
thin_delta --verbose -m --thin1 2 --thin2 3 /dev/mapper/vg-pool_tmeta >delta-verbose.xml
dmsetup message vg-pool-tpool 0 release_metadata_snap
# lvs.json: what lvs reports, of a snapshot that overflowed too.
lvremove -q -y vg; vgrename vg vg-t
lvcreate -q -L 64M -T vg-t/pool; lvcreate -q -V 64M -T vg-t/pool -n thin; lvcreate -q -y -Wy -L 16M -n classic vg-t
mkfs.ext4 -q /dev/vg-t/thin; mount /dev/vg-t/thin /mnt
lvcreate -q -s -p r -k y -a y -K --addtag snapdiff_job=a -n snapdiff_1 vg-t/thin
lvcreate -q -s -c 4k -l 1 -n lost vg-t/classic; lvcreate -q -s -p r -l 50%ORIGIN -n snapdiff_2 vg-t/classic
dd if=/dev/zero of=/dev/vg-t/classic bs=1M count=6 oflag=direct
lvs -a --config 'report/time_format="%s"' --reportformat json --units b --nosuffix -o uuid,name,segtype,attr,size,pool_lv_uuid,origin_uuid,thin_id,metadata_lv_uuid,data_percent,metadata_percent,time,health_status,vg_free vg-t >lvs.json
