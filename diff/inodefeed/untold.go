package inodefeed

import (
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// Some files are written without any trace in their inodes, the times included. Blocks of a swap file are written to the device, past
// the filesystem (mm/swapfile.c), and ext4 itself writes the files of quotas that lie in its top directory (ext4_quota_write in fs/ext4/super.c), and
// the journal, which has a name, .journal, where tune2fs made it in a mounted filesystem. So they are candidates in every run.

// quotaFiles are the names that quota-tools has for files of quotas; the second pair is of their old format.
var quotaFiles = []string{"aquota.user", "aquota.group", "quota.user", "quota.group"}

// written gives the files that the filesystem writes itself.
func (f *feed) written() (nums []uint64) {
	if e, ok := f.next.fs.(*ext4); ok {
		for _, num := range e.super.own {
			nums = append(nums, uint64(num))
		}
	}
	for _, name := range quotaFiles {
		if st, err := f.next.root.Lstat(name); err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG {
			nums = append(nums, st.Ino)
		}
	}
	return nums
}

// leastSwap is the smallest swap area that mkswap(8) makes, 10 pages.
const leastSwap = 10 * 4096

// swapMagics are what stands at the end of a swap area's first page: union swap_header of include/linux/swap.h, and what hibernation puts there
// (kernel/power/swap.c).
var swapMagics = []string{"SWAPSPACE2", "S1SUSPEND\x00"}

// swaps tells a file that is made for swapping to, whether that is going on or not. It is root's: of others swapon(8) warns. Of one whose size is no multiple of a page the rest is not used. One whose first page
// cannot be read is none: nothing can be swapped to it. Only a page that was written is read, and nothing ahead (see openFile).
func swaps(s Side, fs filesystem, num uint64, i *inode) bool {
	if !i.IsRegular() || i.UID != 0 || i.Size < leastSwap {
		return false
	}
	fd, err := openHandle(s.Root, fs.handle(num, i.Gen))
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	page := int64(os.Getpagesize())
	es, _, err := extents(fd, page)
	if err != nil || len(es) == 0 || es[0].off > 0 || es[0].len < page {
		return false
	}
	unix.Fadvise(fd, 0, 0, unix.FADV_RANDOM)
	var magic [10]byte
	n, err := unix.Pread(fd, magic[:], page-int64(len(magic)))
	return err == nil && slices.Contains(swapMagics, string(magic[:n]))
}

// carries tells an inode that the next run has to look at, whatever its bytes on the device say.
func carries(s Side, fs filesystem, num uint64, i *inode) bool {
	return i.changedAround(s.Taken) || swaps(s, fs, num, i)
}
