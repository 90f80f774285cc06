package status

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"snapdiff/apply"
)

// someJobs are jobs of all kinds: one that ran, one that never did, one with a name that needs escaping.
func someJobs() []*Job {
	now := time.Unix(1_800_000_000, 5)
	return []*Job{
		{Name: "mail", Run: "r17", Time: &now, Verified: &now, Expires: "r1", ExpiresAt: &now, Counts: apply.Counts{Added: 3, Bytes: 1 << 40}, Seconds: 4.25, Points: 17, Size: 1 << 44, Free: 1 << 43},
		{Name: "never"},
		{Name: "odd\"\\\n", Time: &now, How: "full", level: Critical},
	}
}

// parsed are the metrics as Prometheus reads them, by name.
func parsed(t *testing.T) map[string]map[string]float64 {
	t.Helper()
	var text bytes.Buffer
	if err := Metrics(&text, someJobs()); err != nil {
		t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(&text)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]map[string]float64{}
	for name, f := range families {
		values[name] = map[string]float64{}
		if f.GetHelp() == "" || f.GetType().String() != "GAUGE" {
			t.Errorf("%s: help %q, type %s", name, f.GetHelp(), f.GetType())
		}
		for _, m := range f.Metric {
			if len(m.Label) != 1 || m.Label[0].GetName() != "snapdiff_job" {
				t.Errorf("%s has the labels %v", name, m.Label)
			}
			values[name][m.Label[0].GetValue()] = m.Gauge.GetValue()
		}
	}
	return values
}

// What is written is read back by Prometheus's own parser.
func TestMetricsAreWhatPrometheusReads(t *testing.T) {
	got := parsed(t)
	for _, want := range []struct {
		name, job string
		value     float64
	}{
		{"snapdiff_last_run_added", "mail", 3}, {"snapdiff_last_run_bytes", "mail", 1 << 40}, {"snapdiff_last_run_duration_seconds", "mail", 4.25},
		{"snapdiff_last_run_timestamp_seconds", "mail", 1_800_000_000}, {"snapdiff_next_expiry_timestamp_seconds", "mail", 1_800_000_000},
		{"snapdiff_state", "odd\"\\\n", 2}, {"snapdiff_last_run_full_comparison", "odd\"\\\n", 1}, {"snapdiff_restore_points", "never", 0},
		{"snapdiff_last_verified_timestamp_seconds", "never", 0},
	} {
		if value, ok := got[want.name][want.job]; !ok || value != want.value {
			t.Errorf("%s of %q is %v (%v), want %v", want.name, want.job, value, ok, want.value)
		}
	}
	if len(got) != len(metrics) {
		t.Errorf("%d families, want %d", len(got), len(metrics))
	}
	for name, values := range got {
		if _, ok := values["never"]; ok && strings.Contains(name, "_last_run_") {
			t.Errorf("%s has a value for a job that never ran", name)
		}
	}
}

// The dashboard asks only for metrics that there are, and shows each of them; the page of docs names each too.
func TestDashboardAsksForMetricsThatExist(t *testing.T) {
	data, err := os.ReadFile("../../../docs/grafana-dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Title      string
		Templating struct {
			List []struct{ Type, Query string }
		}
		Panels []struct {
			ID      int
			Title   string
			Targets []struct{ Expr string }
			GridPos struct{ X, Y, W, H int }
		}
	}
	if err := json.Unmarshal(data, &dashboard); err != nil {
		t.Fatal(err)
	}
	exist := parsed(t)
	metric := regexp.MustCompile(`snapdiff_[a-ik-z][a-z_]*`)
	asked, ids := map[string]bool{}, map[int]bool{}
	check := func(where, query string) {
		t.Helper()
		names := metric.FindAllString(query, -1)
		if len(names) == 0 {
			t.Errorf("%s asks for nothing of snapdiff: %q", where, query)
		}
		for _, name := range names {
			asked[name] = true
			if exist[name] == nil {
				t.Errorf("%s asks for %s, which does not exist", where, name)
			}
		}
	}
	for _, p := range dashboard.Panels {
		if ids[p.ID] || len(p.Targets) == 0 || p.GridPos.W == 0 {
			t.Errorf("panel %q: id %d is there twice, or it has no query or no place", p.Title, p.ID)
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			check(p.Title, target.Expr)
		}
	}
	for _, v := range dashboard.Templating.List {
		if v.Type == "query" {
			check("a variable", v.Query)
		}
	}
	docs, err := os.ReadFile("../../../docs/operation.md")
	if err != nil {
		t.Fatal(err)
	}
	for name := range exist {
		if !asked[name] {
			t.Errorf("the dashboard does not show %s", name)
		}
		if !bytes.Contains(docs, []byte("`"+name+"`")) {
			t.Errorf("docs/operation.md does not name %s", name)
		}
	}
}
