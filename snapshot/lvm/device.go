package lvm

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pageSize is what O_DIRECT wants offsets, lengths and addresses to be multiples of, at most.
const pageSize = 4096

// aligned gives n bytes at an address that O_DIRECT accepts.
func aligned(n int) []byte {
	b := make([]byte, n+pageSize)
	skip := -int(uintptr(unsafe.Pointer(&b[0]))) & (pageSize - 1)
	return b[skip : skip+n : skip+n]
}

// openDevice opens a device of device-mapper's for reading and makes sure that it is the one of the volume uuid. flags are
// further ones of open(2).
func openDevice(path, uuid, suffix string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|flags, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return nil, &os.PathError{Op: "fstat", Path: path, Err: err}
	}
	id, err := sysfs(st.Rdev, "dm/uuid")
	if base, ok := strings.CutSuffix(id, suffix); err != nil || !ok || fromDMUUID(base) != uuid {
		f.Close()
		return nil, fmt.Errorf("%s is the device %q, not that of the volume %s%s", path, id, uuid, suffix)
	}
	return f, nil
}

// sysfs reads what /sys says of a block device.
func sysfs(dev uint64, name string) (string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/%s", unix.Major(dev), unix.Minor(dev), name))
	return strings.TrimSpace(string(data)), err
}

// sizeOf is the size of a block device in bytes.
func sizeOf(f *os.File) (int64, error) {
	return f.Seek(0, io.SeekEnd)
}

// readDirect reads from the start of a device past the page cache: other processes' writes may have gone past it too.
func readDirect(path, uuid, suffix string, n int) ([]byte, error) {
	f, err := openDevice(path, uuid, suffix, unix.O_DIRECT)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := aligned(n)
	if _, err := f.ReadAt(b, 0); err != nil {
		return nil, err
	}
	return b, nil
}
