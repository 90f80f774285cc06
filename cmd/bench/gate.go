package main

import (
	"bufio"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// hold runs -busy for as long as something is made that loads the machine and is not measured. The result ends it.
func (b *bench) hold() (release func(), err error) {
	args := strings.Fields(b.busy)
	if len(args) == 0 {
		return func() {}, nil
	}
	cmd := exec.Command(args[0], append(args[1:], "sh", "-c", "echo; cat")...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err == nil {
		_, err = bufio.NewReader(out).ReadString('\n')
	}
	if err != nil {
		return nil, fmt.Errorf("-busy %s: %w", b.busy, err)
	}
	return func() {
		if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
			say("-busy: %v", err)
		}
	}, nil
}
