package lvm

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// made describes a snapshot that lvcreate has just made of a volume, active. What its device tells is enough: to ask lvs takes
// as long as to make it. Where the device is not what it should be, lvs is asked all the same.
func (s *Source) made(ctx context.Context, of Volume, name string) (Volume, error) {
	v, err := fromDevice(of, name)
	if err == nil {
		s.seen.add(v)
		return v, nil
	}
	all, err := s.now(ctx)
	if err != nil {
		return v, err
	}
	v, ok := byPath(all, of.VG+"/"+name)
	if !ok || v.OriginUUID != of.UUID {
		return v, fmt.Errorf("%s/%s is not one", of.VG, name)
	}
	return v, nil
}

// fromDevice describes a new snapshot by its device.
func fromDevice(of Volume, name string) (Volume, error) {
	v := Volume{
		VG: of.VG, Name: name, Segments: of.Segments, Size: of.Size, PoolUUID: of.PoolUUID, OriginUUID: of.UUID, Device: deviceOf(of.VG, name),
		Data: -1, Metadata: -1, Active: true, ReadOnly: true, Free: of.Free, Created: time.Now(),
	}
	var st unix.Stat_t
	if err := unix.Stat(v.Device, &st); err != nil {
		return v, &os.PathError{Op: "stat", Path: v.Device, Err: err}
	}
	id, err := sysfs(st.Rdev, "dm/uuid")
	if err != nil {
		return v, err
	}
	if v.UUID = fromDMUUID(id); v.UUID == "" {
		return v, fmt.Errorf("%s is the device %q", v.Device, id)
	}
	t, err := dmTable(v.dm())
	if err != nil {
		return v, err
	}
	// Documentation/admin-guide/device-mapper: "thin POOL ID" and "snapshot ORIGIN STORE P|N CHUNK".
	f := strings.Fields(t.params)
	switch {
	case of.Thin() && t.kind == "thin" && len(f) == 2:
		v.ThinID = f[1]
	case !of.Thin() && t.kind == "snapshot":
		v.Attr, v.Segments = "s", "linear"
	default:
		return v, fmt.Errorf("%s is of type %q: %s", v.Device, t.kind, t.params)
	}
	return v, nil
}
