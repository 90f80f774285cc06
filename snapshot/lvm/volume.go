package lvm

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Volume is a logical volume as lvs(8) reports it.
type Volume struct {
	UUID, VG, Name string
	Segments       string // type of its segments: "linear", "thin", "thin-pool", ...
	Attr           string // lv_attr of lvs(8)
	Size           int64  // bytes; of a classic snapshot: of its store
	PoolUUID       string // thin volumes: their pool
	OriginUUID     string // snapshots: what they were taken of; "" when that is gone
	ThinID         string // thin volumes: their number in the pool
	Device         string // of device-mapper, below /dev/mapper; there only while the volume is active
	MetadataUUID   string // thin pools: their metadata volume
	// Data and Metadata are how full it is, in percent: thin pools and, Data only, classic snapshots. -1 when not known.
	Data, Metadata float64
	Active         bool
	ReadOnly       bool
	Open           bool // its device is in use
	Merging        bool // it is being merged into its origin
	Invalid        bool // a classic snapshot that overflowed
	NeedsCheck     bool // a thin pool with damaged metadata
	Health         string
	Free           int64     // bytes free in the volume group
	Created        time.Time // to the second
}

// Path is the volume's name as the commands of LVM take it: "vg/lv".
func (v Volume) Path() string { return v.VG + "/" + v.Name }

// dm is the name of its device to device-mapper.
func (v Volume) dm() string { return filepath.Base(v.Device) }

// Thin tells a thin volume, which may be a thin snapshot.
func (v Volume) Thin() bool { return v.Segments == "thin" }

// Classic tells a classic snapshot (lvcreate -s with a size), merging ones included.
func (v Volume) Classic() bool {
	return strings.HasPrefix(v.Attr, "s") || strings.HasPrefix(v.Attr, "S")
}

// fields are asked of lvs. With --binary a flag is "1", "0" or "-1" (does not apply), lv_active aside.
const fields = "lv_uuid,lv_name,vg_name,segtype,lv_attr,lv_size,pool_lv_uuid,origin_uuid,thin_id,lv_dm_path,metadata_lv_uuid,data_percent," +
	"metadata_percent,lv_time,lv_active,lv_permissions,lv_device_open,lv_merging,lv_snapshot_invalid,lv_check_needed,lv_health_status,vg_free"

// volumes lists the volumes of a group, hidden ones included.
func volumes(ctx context.Context, vg string) ([]Volume, error) {
	out, err := ask(ctx, "lvs", "-a", "--config", `report/time_format="%s"`, "--binary", "--reportformat", "json", "--units", "b", "--nosuffix", "-o", fields, vg)
	if err != nil {
		return nil, err
	}
	return parseVolumes(out)
}

// parseVolumes reads the JSON report of lvs. A volume with segments of several types stands there several times; the first
// counts.
func parseVolumes(data []byte) ([]Volume, error) {
	var doc struct {
		Report []struct {
			LV []map[string]string `json:"lv"`
		} `json:"report"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("reading the report of lvs: %w", err)
	}
	var all []Volume
	seen := map[string]bool{}
	for _, report := range doc.Report {
		for _, lv := range report.LV {
			v, err := volume(lv)
			if err != nil {
				return nil, err
			}
			if !seen[v.UUID] {
				seen[v.UUID] = true
				all = append(all, v)
			}
		}
	}
	return all, nil
}

func volume(lv map[string]string) (Volume, error) {
	for _, field := range strings.Split(fields, ",") {
		if _, ok := lv[field]; !ok {
			return Volume{}, fmt.Errorf("the report of lvs has no field %s", field)
		}
	}
	v := Volume{
		UUID: lv["lv_uuid"], VG: lv["vg_name"], Name: strings.Trim(lv["lv_name"], "[]"), Segments: lv["segtype"], Attr: lv["lv_attr"],
		PoolUUID: lv["pool_lv_uuid"], OriginUUID: lv["origin_uuid"], ThinID: lv["thin_id"], Device: lv["lv_dm_path"],
		MetadataUUID: lv["metadata_lv_uuid"], Data: percent(lv["data_percent"]), Metadata: percent(lv["metadata_percent"]),
		Active: lv["lv_active"] == "active" || lv["lv_active"] == "1", ReadOnly: strings.HasPrefix(lv["lv_permissions"], "read-only"),
		Open: lv["lv_device_open"] == "1", Merging: lv["lv_merging"] == "1", Invalid: lv["lv_snapshot_invalid"] == "1",
		NeedsCheck: lv["lv_check_needed"] == "1", Health: lv["lv_health_status"],
	}
	// lv_permissions is that of the active device and unknown without one: the attribute is the one that LVM keeps.
	if len(v.Attr) > 1 {
		v.ReadOnly = v.Attr[1] == 'r'
	}
	var err error
	if v.Size, err = strconv.ParseInt(lv["lv_size"], 10, 64); err == nil {
		v.Free, err = strconv.ParseInt(lv["vg_free"], 10, 64)
	}
	if seconds, err := strconv.ParseInt(strings.TrimSpace(lv["lv_time"]), 10, 64); err == nil {
		v.Created = time.Unix(seconds, 0)
	}
	if err != nil || v.UUID == "" || v.Name == "" {
		return v, fmt.Errorf("the report of lvs on %s makes no sense: lv_size %q, vg_free %q", v.Path(), lv["lv_size"], lv["vg_free"])
	}
	return v, nil
}

// percent reads a percentage; -1 when there is none.
func percent(s string) float64 {
	p, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return -1
	}
	return p
}

// byUUID finds a volume.
func byUUID(all []Volume, uuid string) (Volume, bool) {
	for _, v := range all {
		if v.UUID == uuid {
			return v, true
		}
	}
	return Volume{}, false
}

// dmUUID is how the kernel knows the device of a volume: "LVM-" with the UUIDs of group and volume, without dashes. Devices
// that belong to it have a further suffix.
const dmUUIDLength = len("LVM-") + 32 + 32

// fromDMUUID gives the UUID of the volume whose device has this device-mapper UUID; "" when it is none.
func fromDMUUID(id string) string {
	if len(id) != dmUUIDLength || !strings.HasPrefix(id, "LVM-") {
		return ""
	}
	id = id[dmUUIDLength-32:]
	var parts []string
	for _, n := range []int{6, 4, 4, 4, 4, 4, 6} {
		parts, id = append(parts, id[:n]), id[n:]
	}
	return strings.Join(parts, "-")
}

// deviceOf is the path of a volume's device.
func deviceOf(vg, lv string) string {
	escape := func(s string) string { return strings.ReplaceAll(s, "-", "--") }
	return "/dev/mapper/" + escape(vg) + "-" + escape(lv)
}

// groupOf is the group in the device-mapper name of a volume, "vg-lv": a dash that belongs to a name stands there twice.
func groupOf(dmName string) string {
	const dash = "\x00"
	escaped := strings.ReplaceAll(filepath.Base(dmName), "--", dash)
	vg, _, _ := strings.Cut(escaped, "-")
	return strings.ReplaceAll(vg, dash, "-")
}
