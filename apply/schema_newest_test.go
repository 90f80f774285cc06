package apply

import "testing"

// TestNewestSchema: the fingerprint by which a catalog is known at once is that of the newest format.
func TestNewestSchema(t *testing.T) {
	known, err := knownSchemas()
	if err != nil {
		t.Fatal(err)
	}
	if got := known[len(known)-1].fingerprint(); got != newestSchema {
		t.Errorf("newestSchema is %q, the newest format has %q", newestSchema, got)
	}
	for i, s := range known[:len(known)-1] {
		if s.fingerprint() == newestSchema {
			t.Errorf("format %d has the fingerprint of the newest one", i+1)
		}
	}
}
