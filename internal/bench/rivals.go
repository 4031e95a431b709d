package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"mailraft/internal/fixedport"
)

// rivals are replicated queues on which others would build: three nodes each,
// on the same disk. They know no SMTP; "rival" (internal/bench/rival) publishes
// to them in the same closed loop.

const rivalNodes = 3

// child is a process that ends when its standard input is closed, or, where we
// do not have that, by SIGTERM.
type child struct {
	*exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startChild(log string, wrap []string, name string, args ...string) (*child, error) {
	f, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c := &child{Cmd: command(wrap, name, args...)}
	c.Stderr = f
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(out)
	if c.in, err = c.StdinPipe(); err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *child) stop() {
	if c.in != nil {
		c.in.Close()
	} else {
		for _, pid := range family(c.Process.Pid) {
			_ = syscall.Kill(pid, syscall.SIGTERM) // or it has ended
		}
	}
	_ = c.Wait() // how it ended does not matter any more
}

// publisher is "rival load": what it is asked and what it answers is told there.
type publisher struct{ *child }

// prepare makes an empty queue, and returns what sends to it.
func (p publisher) prepare(l Load) (func(context.Context) Result, error) {
	ask, err := json.Marshal(struct {
		Size, Sessions int
		Warm, Time     time.Duration
	}{l.Size, l.Sessions, l.Warm, l.Time})
	if err != nil {
		return nil, err
	}
	if _, err := p.say(append(ask, '\n')); err != nil {
		return nil, err
	}
	return func(context.Context) Result {
		var r struct {
			Result
			Error string
		}
		line, err := p.say([]byte("\n"))
		if err == nil {
			err = json.Unmarshal(line, &r)
		}
		if err == nil && r.Error != "" {
			err = errors.New(r.Error)
		}
		r.Result.Err = err
		return r.Result
	}, nil
}

func (p publisher) say(text []byte) ([]byte, error) {
	if _, err := p.in.Write(text); err != nil {
		return nil, fmt.Errorf("ask the publisher: %w", err)
	}
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("read what the publisher says: %w", err)
	}
	if text, failed := strings.CutPrefix(string(line), "!"); failed {
		return nil, errors.New(strings.TrimSpace(text))
	}
	return line, nil
}

// startJetStream runs three nodes whose acknowledgement means synced at a majority.
func startJetStream(exe string, wrap []string, dir string) (*system, error) {
	var client, cluster [rivalNodes]string
	for i := range rivalNodes {
		var err error
		if client[i], err = fixedport.Addr(); err != nil {
			return nil, err
		}
		if cluster[i], err = fixedport.Addr(); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	var nodes []*child
	for i := range rivalNodes {
		c, err := startChild(filepath.Join(dir, "output"), wrap, exe, "node", fmt.Sprintf("n%d", i+1), filepath.Join(dir, fmt.Sprint(i+1)),
			client[i], cluster[i], strings.Join(cluster[:], ","))
		if err != nil {
			stopAll(nodes)
			return nil, fmt.Errorf("start a node of JetStream: %w", err)
		}
		nodes = append(nodes, c)
	}
	return withPublisher("JetStream", exe, "jetstream", "nats://"+strings.Join(client[:], ",nats://"), filepath.Join(dir, "output"), nodes)
}

// withPublisher makes a system of nodes and a publisher for them.
func withPublisher(name, exe, kind, urls, log string, nodes []*child) (*system, error) {
	load, err := startChild(log, nil, exe, "load", kind, urls)
	if err != nil {
		stopAll(nodes)
		return nil, fmt.Errorf("start a publisher: %w", err)
	}
	p := publisher{load}
	return &system{name: name, members: rivalNodes, prepare: p.prepare, generators: []int{load.Process.Pid},
		pids: func() (pids []int) {
			for _, c := range nodes {
				pids = append(pids, family(c.Process.Pid)...)
			}
			return pids
		},
		stop: func() {
			load.stop()
			stopAll(nodes)
		}}, nil
}

func stopAll(nodes []*child) {
	for _, c := range nodes {
		c.stop()
	}
}
