package apply

import (
	"encoding/binary"
	"errors"

	"snapdiff/snapshot/beneath"
)

// xattrsVersion begins the encoding of extended attributes in versions.xattrs. After it, for each attribute: length of the name, name, length of the
// value, value; lengths are unsigned varints. No attributes: no bytes.
const xattrsVersion = 1

var errXattrs = errors.New("the catalog's encoding of extended attributes is damaged or newer than this program")

func encodeXattrs(list []beneath.Xattr) []byte {
	if len(list) == 0 {
		return nil
	}
	b := []byte{xattrsVersion}
	for _, x := range list {
		b = append(binary.AppendUvarint(b, uint64(len(x.Name))), x.Name...)
		b = append(binary.AppendUvarint(b, uint64(len(x.Value))), x.Value...)
	}
	return b
}

func decodeXattrs(b []byte) ([]beneath.Xattr, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if b[0] != xattrsVersion {
		return nil, errXattrs
	}
	var list []beneath.Xattr
	for b = b[1:]; len(b) > 0; {
		name, rest, ok := cutCounted(b)
		if !ok {
			return nil, errXattrs
		}
		value, rest, ok := cutCounted(rest)
		if !ok {
			return nil, errXattrs
		}
		list, b = append(list, beneath.Xattr{Name: string(name), Value: value}), rest
	}
	return list, nil
}

// cutCounted cuts off a length and as many bytes.
func cutCounted(b []byte) (field, rest []byte, ok bool) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) {
		return nil, nil, false
	}
	b = b[size:]
	return b[:n], b[n:], true
}
