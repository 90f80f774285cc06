package diff

import (
	"crypto/sha256"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Signature is a short hash of those fields of an inode that tell whether anything but its contents changed: mode, owner, size,
// number of links, times of last modification and last change, generation. Any change of an attribute sets the time of last
// change, which has the grain of the kernel's clock tick: two changes within one tick have the same. It is never 0.
func Signature(st *unix.Stat_t, gen uint64) uint64 {
	var b [80]byte
	for i, n := range []uint64{
		uint64(st.Mode), uint64(st.Uid), uint64(st.Gid), uint64(st.Size), uint64(st.Nlink),
		uint64(st.Mtim.Sec), uint64(st.Mtim.Nsec), uint64(st.Ctim.Sec), uint64(st.Ctim.Nsec), gen,
	} {
		binary.LittleEndian.PutUint64(b[8*i:], n)
	}
	sum := sha256.Sum256(b[:])
	return max(binary.LittleEndian.Uint64(sum[:]), 1)
}

// SignatureIndex is a LinkIndex that remembers the signatures of the base's inodes, for filesystems that can tell those of the new
// snapshot's at little cost: what has the same is not looked at.
type SignatureIndex interface {
	LinkIndex
	// Signatures gives those of the base's inodes of these numbers, 0 for what is not known. It is quickest if they ascend.
	Signatures(inos []uint64) ([]uint64, error)
	// Expect reads together what Names and Generation will be asked of these numbers.
	Expect(inos []uint64) error
	// Generation gives that of the base's inode of this number; 0 when it is not known.
	Generation(ino uint64) (uint64, error)
}
