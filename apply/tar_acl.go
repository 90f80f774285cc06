package apply

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// aclText turns a POSIX ACL from the bytes of system.posix_acl_access or _default (linux/posix_acl_xattr.h: u32 version 2,
// then for each entry u16 tag, u16 permissions, u32 id, all little-endian) into the text of SCHILY.acl.* (acl_to_text(3)),
// with numbers for users and groups.
func aclText(b []byte) (string, error) {
	const version, size = 2, 8
	if len(b) < 4 || binary.LittleEndian.Uint32(b) != version || (len(b)-4)%size != 0 {
		return "", fmt.Errorf("an ACL of %d bytes is of no known kind", len(b))
	}
	var entries []string
	for b = b[4:]; len(b) > 0; b = b[size:] {
		tag, perm, id := binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:]), binary.LittleEndian.Uint32(b[4:])
		who, ok := map[uint16]string{0x01: "user:", 0x02: fmt.Sprintf("user:%d", id), 0x04: "group:", 0x08: fmt.Sprintf("group:%d", id), 0x10: "mask:", 0x20: "other:"}[tag]
		if !ok || perm > 7 {
			return "", fmt.Errorf("an ACL has an entry of unknown kind %#x with permissions %o", tag, perm)
		}
		entries = append(entries, who+":"+rwx(perm))
	}
	return strings.Join(entries, ","), nil
}

func rwx(perm uint16) string {
	b := []byte("---")
	for i, c := range []byte("rwx") {
		if perm&(4>>i) != 0 {
			b[i] = c
		}
	}
	return string(b)
}
