package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// leftBehind is the annotation of a command that says what a signal leaves and what to do next.
const leftBehind = "left behind"

// stopSignal is the cause of a context that a signal ended.
type stopSignal struct{ syscall.Signal }

// Error names the signal: "SIGTERM".
func (s stopSignal) Error() string { return unix.SignalName(s.Signal) }

// Is makes it a kind of context.Canceled, for whoever returns the cause.
func (s stopSignal) Is(target error) bool { return target == context.Canceled }

// stopOnSignal gives a context that ends with SIGINT, SIGTERM or SIGHUP (unless that was ignored, by nohup). Then everything
// stops between two steps. A second signal ends the program at once, which does no harm either.
func stopOnSignal() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	wanted := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		wanted = append(wanted, syscall.SIGHUP)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, wanted...)
	go func() {
		select {
		case s := <-signals:
			signal.Reset(wanted...)
			cancel(stopSignal{s.(syscall.Signal)})
		case <-ctx.Done():
		}
	}()
	return ctx, func() { signal.Stop(signals); cancel(nil) }
}

// stopped tells that an error only says that a signal came.
func stopped(ctx context.Context, err error) bool {
	return ctx.Err() != nil && errors.Is(err, context.Canceled)
}

// signalOf is the signal that ended the context; SIGINT where it was no signal.
func signalOf(ctx context.Context) syscall.Signal {
	var s stopSignal
	if errors.As(context.Cause(ctx), &s) {
		return s.Signal
	}
	return syscall.SIGINT
}

func signalName(ctx context.Context) string { return fmt.Sprint(stopSignal{signalOf(ctx)}) }
