package zfs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"snapdiff/snapshot"
)

// takeProgram is a channel program (zfs-program(8)) in place of three commands of zfs, whose start is most of what a small run takes: the base
// goes with its last hold from now on, a snapshot is taken, and all that there are then are told by their heldProperties, in no order, numbers
// as signed ones. Nothing is written to the pool meanwhile, so where there are many it does nothing and gives nothing.
const takeProgram = `
local argv = (...)["argv"]
local dataset, new, base, guid = argv[1], argv[2], argv[3], argv[4]
local names, found = {}, false
for s in zfs.list.snapshots(dataset) do
	names[#names + 1] = s
	found = found or s == base
	if #names > 200 then return "" end
end
if found and tostring(zfs.get_prop(base, "guid")) == guid and zfs.get_prop(base, "userrefs") > 0 then
	zfs.sync.destroy{base, defer=true}
end
local failed = zfs.sync.snapshot(new)
if failed ~= 0 then error("snapshot: " .. failed) end
names[#names + 1] = new
local out = ""
for _, s in ipairs(names) do
	out = out .. s
	for _, p in ipairs({"guid", "createtxg", "creation", "userrefs", "defer_destroy"}) do
		out = out .. "\t" .. tostring(zfs.get_prop(s, p))
	end
	out = out .. "\n"
end
return out
`

// take takes the snapshot of this full name. With it come all that the dataset has then, nil: they are still to be listed. base is as for Take.
func take(ctx context.Context, d Dataset, full string, base snapshot.Mark) ([]Held, error) {
	all, err := runTake(ctx, d, full, base)
	if err == nil && all != nil || ctx.Err() != nil {
		return all, err
	}
	// The command says what is wrong so that people understand it, and does what no program was let do.
	_, err = run(ctx, "snapshot", full)
	var failed *Error
	if errors.As(err, &failed) && strings.Contains(failed.Stderr, "already exists") { // the program came so far: nobody else takes this name
		err = nil
	}
	return nil, err
}

// runTake runs takeProgram; nil: it did nothing.
func runTake(ctx context.Context, d Dataset, full string, base snapshot.Mark) ([]Held, error) {
	guid, _ := strconv.ParseUint(base.ID, 10, 64) // 0, which none has, where there is no base
	pool, _, _ := strings.Cut(d.Name, "/")
	out, err := output(ctx, takeProgram, "zfs", "program", "-j", "--", pool, "-", d.Name, full, base.Path, strconv.FormatInt(int64(guid), 10))
	if err != nil {
		return nil, err
	}
	var answer struct {
		Return string `json:"return"`
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		return nil, fmt.Errorf("what zfs program gave: %w", err)
	}
	lines := fields(answer.Return)
	for _, f := range lines {
		if len(f) < 2 {
			continue // heldOf says so
		}
		if id, err := strconv.ParseInt(f[1], 10, 64); err == nil {
			f[1] = strconv.FormatUint(uint64(id), 10)
		}
	}
	return heldOf(d, lines)
}
