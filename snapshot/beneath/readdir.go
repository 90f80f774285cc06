package beneath

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// ReadDir calls yield for every name in the directory at path, in the order of the filesystem, without "." and "..".
// dtype is a DT_ constant (DT_UNKNOWN where the filesystem does not tell). ino is d_ino: of a nested subvolume or a mount
// point it is not the number that Lstat shows. An error of yield ends it and is returned as it is.
func (r *Root) ReadDir(path string, yield func(name string, dtype uint8, ino uint64) error) error {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY
	fd, err := r.Open(path, flags|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) { // O_NOATIME is for the owner
		fd, err = r.Open(path, flags, 0)
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if more := r.graftIn[path]; len(more) > 0 {
		return r.readGrafted(fd, path, more, yield)
	}
	return readDir(fd, path, yield)
}

// readGrafted is ReadDir of a directory in which other trees are shown, also where it has no such names itself.
func (r *Root) readGrafted(fd int, path string, more []string, yield func(name string, dtype uint8, ino uint64) error) error {
	shown := map[string]bool{}
	err := readDir(fd, path, func(name string, dtype uint8, ino uint64) error {
		shown[name] = true
		return yield(name, dtype, ino)
	})
	for _, name := range more {
		if err == nil && !shown[name] {
			err = yield(name, unix.DT_DIR, 0)
		}
	}
	return err
}

func readDir(fd int, path string, yield func(name string, dtype uint8, ino uint64) error) error {
	buf := bigBuffers.Get().(*[64 << 10]byte)
	defer bigBuffers.Put(buf)
	for {
		n, err := unix.Getdents(fd, buf[:])
		if err != nil {
			return fail("read directory", path, err)
		}
		if n == 0 {
			return nil
		}
		if err := eachDirent(buf[:n], yield); err != nil {
			return err
		}
	}
}

// eachDirent goes through what getdents64(2) returned: struct linux_dirent64 {u64 d_ino; s64 d_off; u16 d_reclen; u8
// d_type; char d_name[]} in the machine's byte order, each padded to d_reclen.
func eachDirent(b []byte, yield func(name string, dtype uint8, ino uint64) error) error {
	const nameAt = 19
	for len(b) > 0 {
		if len(b) < nameAt {
			return fmt.Errorf("getdents64 returned a cut entry of %d bytes", len(b))
		}
		size := int(binary.NativeEndian.Uint16(b[16:]))
		if size < nameAt || size > len(b) {
			return fmt.Errorf("getdents64 returned an entry of %d bytes, %d left", size, len(b))
		}
		name := b[nameAt:size]
		if end := bytes.IndexByte(name, 0); end >= 0 {
			name = name[:end]
		}
		if s := string(name); s != "." && s != ".." {
			if err := yield(s, b[18], binary.NativeEndian.Uint64(b)); err != nil {
				return err
			}
		}
		b = b[size:]
	}
	return nil
}
