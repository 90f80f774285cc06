package status

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"snapdiff/cmd/snapdiff/output"
)

// metric is one family of the Prometheus text format (https://prometheus.io/docs/instrumenting/exposition_formats/).
type metric struct {
	name, help string
	value      func(*Job) float64
	// needsRun: there is no value before the first finished run.
	needsRun bool
}

var metrics = []metric{
	{"state", "0 ok, 1 warning, 2 critical", func(j *Job) float64 { return float64(j.level) }, false},
	{"restore_points", "number of restore points", func(j *Job) float64 { return float64(j.Points) }, false},
	{"history_bytes", "what the store needs for all restore points but the newest", func(j *Job) float64 { return float64(j.History) }, false},
	{"next_expiry_timestamp_seconds", "when the next restore point is dropped, if a run is made each day, 0 if none is within a year", func(j *Job) float64 {
		if j.ExpiresAt == nil {
			return 0
		}
		return float64(j.ExpiresAt.Unix())
	}, false},
	{"store_size_bytes", "size of the store's filesystem", func(j *Job) float64 { return float64(j.Size) }, false},
	{"store_free_bytes", "free space of the store's filesystem", func(j *Job) float64 { return float64(j.Free) }, false},
	{"store_free_inodes", "free inodes of the store's filesystem", func(j *Job) float64 { return float64(j.InodesFree) }, false},
	{"last_verified_timestamp_seconds", "when the whole mirror was last known to equal its snapshot, 0 if never", func(j *Job) float64 {
		if j.Verified == nil {
			return 0
		}
		return float64(j.Verified.Unix())
	}, false},
	{"base_timestamp_seconds", "when the oldest of our snapshots on the source was taken, 0 if there is none", func(j *Job) float64 {
		if j.Base == nil {
			return 0
		}
		return float64(j.Base.Unix())
	}, false},
	{"base_bytes", "space that our snapshots pin on the source, -1 where its filesystem does not tell", func(j *Job) float64 {
		if j.BaseBytes == nil {
			return -1
		}
		return float64(*j.BaseBytes)
	}, false},
	{"failed_timestamp_seconds", "when the newest run failed, 0 if it did not", func(j *Job) float64 {
		if j.Failed == nil {
			return 0
		}
		return float64(j.Failed.Time.Unix())
	}, false},
	{"last_run_timestamp_seconds", "when the snapshot of the newest restore point was taken", func(j *Job) float64 { return float64(j.Time.Unix()) }, true},
	{"last_run_duration_seconds", "how long the newest finished run took", func(j *Job) float64 { return j.Seconds }, true},
	{"last_run_added", "names that came in the newest finished run", func(j *Job) float64 { return float64(j.Added + j.Files) }, true},
	{"last_run_removed", "names that went in the newest finished run", func(j *Job) float64 { return float64(j.Removed) }, true},
	{"last_run_metadata", "files and directories with other metadata in the newest finished run", func(j *Job) float64 { return float64(j.Meta) }, true},
	{"last_run_modified", "files with other contents in the newest finished run", func(j *Job) float64 { return float64(j.Modified) }, true},
	{"last_run_bytes", "bytes of the files copied in the newest finished run", func(j *Job) float64 { return float64(j.Bytes) }, true},
	{"last_run_incomplete", "files that could not be copied", func(j *Job) float64 { return float64(j.Incomplete) }, true},
	{"last_run_full_comparison", "1 when the filesystem could not tell what changed", func(j *Job) float64 {
		if j.How == "full" {
			return 1
		}
		return 0
	}, true},
}

// Metrics writes the jobs in the Prometheus text format.
func Metrics(w io.Writer, jobs []*Job) error {
	label := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
	var b bytes.Buffer
	for _, m := range metrics {
		fmt.Fprintf(&b, "# HELP snapdiff_%s %s\n# TYPE snapdiff_%s gauge\n", m.name, m.help, m.name)
		for _, j := range jobs {
			if !m.needsRun || j.Time != nil {
				fmt.Fprintf(&b, "snapdiff_%s{snapdiff_job=\"%s\"} %v\n", m.name, label.Replace(j.Name), m.value(j))
			}
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

// WriteMetrics writes them to a file for node_exporter's textfile collector, which reads *.prom only: whole or not at all.
func WriteMetrics(path string, jobs []*Job) error {
	err := output.ReplaceFile(path, 0o644, func(w io.Writer) error { return Metrics(w, jobs) })
	if err != nil {
		return fmt.Errorf("write metrics to %s: %w", path, err)
	}
	return nil
}
