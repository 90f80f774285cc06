package lvm

import (
	"bytes"
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

// fields are asked of lvs. What else is needed the attributes tell (lv_attr in lvs(8)): a line of a script takes no more.
const fields = "lv_uuid,lv_name,segtype,lv_attr,lv_size,pool_lv_uuid,origin_uuid,thin_id,metadata_lv_uuid,data_percent,metadata_percent,lv_time," +
	"lv_health_status,vg_free"

// volumes lists the volumes of a group, hidden ones included.
func (c *commands) volumes(ctx context.Context, vg string) ([]Volume, error) {
	short := strings.ReplaceAll(","+fields, ",lv_", ",")[1:] // the prefix is the default
	out, err := c.ask(ctx, "lvs", "-a", "--config", `report/time_format="%s"`, "--reportformat", "json", "--units", "b", "--nosuffix", "-o", short, vg)
	if err != nil {
		return nil, err
	}
	return parseVolumes(out, vg)
}

// parseVolumes reads the JSON report of lvs on a group, and passes over lines before it. A volume with segments of several types stands there several
// times; the first counts.
func parseVolumes(data []byte, vg string) ([]Volume, error) {
	var doc struct {
		Report []struct {
			LV []map[string]string `json:"lv"`
		} `json:"report"`
	}
	for len(data) > 0 && !bytes.HasPrefix(bytes.TrimLeft(data, " "), []byte("{")) {
		_, data, _ = bytes.Cut(data, []byte("\n"))
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("reading the report of lvs: %w", err)
	}
	var all []Volume
	seen := map[string]bool{}
	for _, report := range doc.Report {
		for _, lv := range report.LV {
			v, err := volume(lv, vg)
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

// Places in lv_attr, see lvs(8).
const (
	attrType, attrPermissions, attrState = 0, 1, 4
	attrs                                = 10
)

func volume(lv map[string]string, vg string) (Volume, error) {
	for _, field := range strings.Split(fields, ",") {
		if _, ok := lv[field]; !ok {
			return Volume{}, fmt.Errorf("the report of lvs has no field %s", field)
		}
	}
	v := Volume{
		UUID: lv["lv_uuid"], VG: vg, Name: strings.Trim(lv["lv_name"], "[]"), Segments: lv["segtype"], Attr: lv["lv_attr"],
		PoolUUID: lv["pool_lv_uuid"], OriginUUID: lv["origin_uuid"], ThinID: lv["thin_id"],
		MetadataUUID: lv["metadata_lv_uuid"], Data: percent(lv["data_percent"]), Metadata: percent(lv["metadata_percent"]),
		Health: lv["lv_health_status"],
	}
	v.Device = deviceOf(vg, v.Name)
	if len(v.Attr) < attrs {
		return v, fmt.Errorf("the report of lvs on %s makes no sense: lv_attr %q", v.Path(), v.Attr)
	}
	state := v.Attr[attrState]
	v.Active = !strings.ContainsRune("-hX", rune(state))
	v.ReadOnly = v.Attr[attrPermissions] == 'r'
	v.Merging = strings.ContainsRune("OS", rune(v.Attr[attrType]))
	v.Invalid = v.Classic() && strings.ContainsRune("IS", rune(state))
	v.NeedsCheck = strings.ContainsRune("cC", rune(state))
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
