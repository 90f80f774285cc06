package lvm

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// commands runs commands of LVM's. Nearly all of the time that one takes by itself is the start of its process, so one process takes them
// all: it is handed them one after the other as the lines of a script (lvm(8)). It holds no lock between two of them, and each looks anew
// at what there is. None may ask anything (-y): the answer would be awaited from the script. The zero value is ready.
type commands struct {
	mu   sync.Mutex
	on   *script
	rest *time.Timer // ends it when nothing was asked of it for a while
}

// restAfter is how long a process waits for the next command. A long run needs none of it in between.
const restAfter = 10 * time.Second

// ask runs a command that changes nothing and gives what it prints. It is killed when ctx ends.
func (c *commands) ask(ctx context.Context, words ...string) ([]byte, error) {
	line, ok := scriptLine(words)
	if !ok {
		return ask(ctx, words[0], words[1:]...)
	}
	return c.run(ctx, words, line)
}

// change runs several commands that change something, in order, up to the first that fails. None is begun when ctx has ended, and one that was
// begun runs to its end.
func (c *commands) change(ctx context.Context, all ...[]string) error {
	for _, words := range all {
		if err := ctx.Err(); err != nil {
			return err
		}
		line, ok := scriptLine(words)
		var err error
		if ok {
			_, err = c.run(context.WithoutCancel(ctx), words, line)
		} else {
			_, err = ask(context.WithoutCancel(ctx), words[0], words[1:]...)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *commands) run(ctx context.Context, words []string, line string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if c.rest != nil {
		c.rest.Stop()
	}
	if c.on == nil {
		var err error
		if c.on, err = startScript(); err != nil {
			return nil, err
		}
	}
	on := c.on
	kill := context.AfterFunc(ctx, func() { on.cmd.Process.Kill() })
	out, ok := on.run(line)
	if kill() && ok {
		c.rest = time.AfterFunc(restAfter, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.on == on {
				c.endNow()
			}
		})
		return out, nil
	}
	c.on = nil
	err := cmp.Or(on.end(), io.ErrUnexpectedEOF)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, &CommandError{Command: strings.Join(words, " "), Text: complaint(on.errs.take()), Err: err}
}

// end ends the process, if there is one; the next command starts another.
func (c *commands) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endNow()
}

// endNow is end with c.mu held. The script has no commands left, so nothing can go wrong that matters.
func (c *commands) endNow() {
	if c.rest != nil {
		c.rest.Stop()
	}
	if c.on != nil {
		c.on.end()
	}
	c.on = nil
}

// script is a process of lvm that reads a script. It ends with the first command that fails.
type script struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	errs complaints
}

func startScript() (*script, error) {
	cmd, err := command(context.Background(), "lvm", "/proc/self/fd/0")
	if err != nil {
		return nil, err
	}
	s := &script{cmd: cmd}
	cmd.Stderr = &s.errs
	if s.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.out = bufio.NewReader(out)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	_, err = io.WriteString(s.in, "#!lvm\n")
	return s, err
}

// versionMark is what the command version, which asks nothing of the devices, prints first. LVM writes out each line that it prints.
const versionMark = "LVM version:"

// run runs a line and gives what it prints, and before it what is left of the mark of the line before. false: it failed, and the script has ended.
func (s *script) run(line string) (out []byte, ok bool) {
	s.errs.take() // warnings of the line before
	if _, err := io.WriteString(s.in, line+"\nversion\n"); err != nil {
		return nil, false
	}
	for {
		text, err := s.out.ReadBytes('\n')
		if err != nil {
			return nil, false
		}
		if bytes.HasPrefix(bytes.TrimSpace(text), []byte(versionMark)) {
			return out, true
		}
		out = append(out, text...)
	}
}

// end waits until it has ended, and gives its exit status.
func (s *script) end() error {
	s.in.Close()
	io.Copy(io.Discard, s.out)
	return s.cmd.Wait()
}

// scriptLine makes a line of a script. false: a script cannot say it; its lines have 255 bytes at most (CMD_LEN, tools/lvmcmdline.c), and what
// begins with a quote or has a blank in it is not the same to all versions.
func scriptLine(words []string) (string, bool) {
	for _, word := range words {
		if word == "" || word[0] == '"' || strings.ContainsFunc(word, notInScript) {
			return "", false
		}
	}
	line := strings.Join(words, " ")
	return line, len(line) <= 250
}

func notInScript(r rune) bool {
	return !(r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune("+_./=:@%,\"-", r))
}

// complaints is what a process says on its standard error.
type complaints struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (c *complaints) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.Write(b)
}

// take gives what was said since it was called last.
func (c *complaints) take() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.text.Reset()
	return c.text.String()
}
