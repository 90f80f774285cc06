package apply

import (
	"path/filepath"
	"testing"

	"snapdiff/snapshot"
)

func TestReservedRunIsNoOthers(t *testing.T) {
	store := filepath.Join(t.TempDir(), "store")
	check(t, Init(store))
	s, err := Open(store)
	check(t, err)
	defer s.Close()
	for want := int64(1); want <= 2; want++ {
		if id, err := s.ReserveRun(); err != nil || id != want {
			t.Fatalf("reserved r%d %v, want r%d", id, err, want)
		}
	}
	if id, err := s.newRun(2, Recorded, "native", "", snapshot.Mark{}, snapshot.Mark{}); err != nil || id != 2 {
		t.Errorf("the run has id r%d %v, want r2", id, err)
	}
	if id, err := s.newRun(0, Recorded, "native", "", snapshot.Mark{}, snapshot.Mark{}); err != nil || id != 3 {
		t.Errorf("the next run has id r%d %v, want r3", id, err)
	}
	if _, err := s.newRun(1, Recorded, "native", "", snapshot.Mark{}, snapshot.Mark{}); err == nil {
		t.Error("a run came before later ones")
	}
}
