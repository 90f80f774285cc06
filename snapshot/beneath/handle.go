package beneath

import "golang.org/x/sys/unix"

// Handle gives the file handle of the inode at path, as name_to_handle_at(2) gives it: bytes that only its filesystem
// understands, with the inode's number and generation in them. A symlink has its own.
func (r *Root) Handle(path string) ([]byte, error) {
	var handle []byte
	err := r.at("get the file handle of", path, func(fd int, base string) error {
		h, _, err := unix.NameToHandleAt(fd, base, 0)
		if err == nil {
			handle = h.Bytes()
		}
		return err
	})
	return handle, err
}
