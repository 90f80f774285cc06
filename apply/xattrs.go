package apply

import (
	"bytes"
	"errors"
	"strconv"

	"snapdiff/snapshot/beneath"
)

var errXattrs = errors.New("the catalog's encoding of extended attributes is damaged")

// decodeXattrs reads versions.xattrs: for each attribute its name, NUL, the length of the value in decimal, NUL, the value.
func decodeXattrs(b []byte) ([]beneath.Xattr, error) {
	var list []beneath.Xattr
	for len(b) > 0 {
		name, rest, ok := bytes.Cut(b, []byte{0})
		digits, rest, found := bytes.Cut(rest, []byte{0})
		size, err := strconv.ParseUint(string(digits), 10, 32)
		if !ok || !found || err != nil || len(name) == 0 || size > uint64(len(rest)) {
			return nil, errXattrs
		}
		list, b = append(list, beneath.Xattr{Name: string(name), Value: rest[:size]}), rest[size:]
	}
	return list, nil
}
