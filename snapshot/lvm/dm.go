package lvm

import (
	"bytes"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dmControl takes the calls of device-mapper (include/uapi/linux/dm-ioctl.h). dmsetup makes the same ones; to run it costs a
// hundred times as much.
const dmControl = "/dev/mapper/control"

// dmTarget is the one target of a device, struct dm_target_spec (40 bytes) and the text behind it.
type dmTarget struct {
	kind   string // "thin", "thin-pool", "snapshot"...
	params string // its status, or its line in the table
}

// dmStatus asks how a device is. name is that of device-mapper, without a directory.
func dmStatus(name string) (dmTarget, error) { return dmAsk(name, 0) }

// dmTable asks what a device is made of.
func dmTable(name string) (dmTarget, error) { return dmAsk(name, unix.DM_STATUS_TABLE_FLAG) }

func dmAsk(name string, flags uint32) (t dmTarget, err error) {
	h, data, err := dmCall(unix.DM_TABLE_STATUS, name, flags, nil)
	if err != nil {
		return t, fmt.Errorf("ask device-mapper how %s is: %w", name, err)
	}
	return decodeTarget(h, data)
}

// decodeTarget reads an answer; data is what stands behind its header.
func decodeTarget(h unix.DmIoctl, data []byte) (t dmTarget, err error) {
	name := cString(h.Name[:])
	if h.Flags&unix.DM_BUFFER_FULL_FLAG != 0 || h.Target_count != 1 || len(data) < unix.SizeofDmTargetSpec {
		return t, fmt.Errorf("device %s has %d targets, or more to tell than there is room for", name, h.Target_count)
	}
	spec := (*unix.DmTargetSpec)(unsafe.Pointer(&data[0]))
	t.kind, t.params = cString(spec.Target_type[:]), cString(data[unix.SizeofDmTargetSpec:])
	return t, nil
}

// dmMessage tells a device something (struct dm_target_msg: a sector, then the text).
func dmMessage(name, text string) error {
	data := append(make([]byte, unsafe.Sizeof(unix.DmTargetMsg{})), text...)
	if _, _, err := dmCall(unix.DM_TARGET_MSG, name, 0, append(data, 0)); err != nil {
		return fmt.Errorf("dmsetup message %s 0 %s: %w", name, text, err)
	}
	return nil
}

// dmCall makes one call: struct dm_ioctl (312 bytes) with the data behind it goes in, and comes out with the answer.
func dmCall(cmd uint, name string, flags uint32, data []byte) (h unix.DmIoctl, answer []byte, err error) {
	if len(name) >= len(h.Name) {
		return h, nil, unix.ENAMETOOLONG
	}
	fd, err := unix.Open(dmControl, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return h, nil, fmt.Errorf("open %s: %w", dmControl, err)
	}
	defer unix.Close(fd)
	buf := make([]uint64, 512) // aligned; what is asked for here takes a hundred bytes
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&buf[0])), 8*len(buf))
	head := (*unix.DmIoctl)(unsafe.Pointer(&buf[0]))
	*head = unix.DmIoctl{Version: [3]uint32{unix.DM_VERSION_MAJOR}, Data_size: uint32(len(raw)), Data_start: unix.SizeofDmIoctl, Flags: flags}
	copy(head.Name[:], name)
	copy(raw[unix.SizeofDmIoctl:], data)
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(cmd), uintptr(unsafe.Pointer(head)))
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return h, nil, errno
		}
		start := min(int(head.Data_start), len(raw))
		return *head, raw[start:], nil
	}
}

// cString is the text up to the first zero.
func cString(b []byte) string {
	text, _, _ := bytes.Cut(b, []byte{0})
	return string(text)
}
