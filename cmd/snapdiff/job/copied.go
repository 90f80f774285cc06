package job

import "fmt"

// noteCopied tells once that the store is a copy, which runs take for what it was copied from.
func (r *runner) noteCopied(last *Report) error {
	copied, err := r.store.NoteTree()
	if err != nil {
		return err
	}
	if copied && last.How == "native" {
		last.Warnings = append(last.Warnings, fmt.Sprintf("the store was copied since the run before: whether hard links and attributes came along, no run can tell; "+
			"snapdiff verify %s --repair does, and mends", r.job.Name))
	}
	return nil
}
