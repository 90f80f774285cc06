// Package hint gives errors the sentence that tells the user what to do next.
package hint

import (
	"errors"
	"fmt"
)

// hinted is an error that says what to do next.
type hinted struct {
	error
	next string
}

// Unwrap gives the error itself.
func (h hinted) Unwrap() error { return h.error }

// Hint is what to do next.
func (h hinted) Hint() string { return h.next }

// With adds to an error what to do next; the format is that of fmt.Sprintf. nil stays nil.
func With(err error, next string, args ...any) error {
	if err == nil {
		return nil
	}
	return hinted{err, fmt.Sprintf(next, args...)}
}

// Of is what an error says to do next, "" if it does not. Errors of other packages take part by a method Hint() string.
func Of(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}
