package inodefeed

import "hash/crc32"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ext4Checksum goes on with a checksum as ext4 makes it (ext4_chksum in fs/ext4/ext4.h): CRC-32C without inverting it at the end.
func ext4Checksum(sum uint32, b []byte) uint32 { return ^crc32.Update(^sum, castagnoli, b) }

// xfsChecksum tells whether the CRC-32C of b, computed with zeros in its own place, is the one that stands there, little endian
// (fs/xfs/libxfs/xfs_cksum.h).
func xfsChecksum(b []byte, at int) bool {
	sum := crc32.Update(0, castagnoli, b[:at])
	sum = crc32.Update(sum, castagnoli, make([]byte, 4))
	return crc32.Update(sum, castagnoli, b[at+4:]) == le.Uint32(b[at:])
}
