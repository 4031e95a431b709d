package loopback

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// process is one that was started here, and its end.
type process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
}

// start runs a command; one that runs is left alone.
func (p *process) start(name, logFile string, words ...string) error {
	if p.Running() {
		return nil
	}
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	defer log.Close()
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	// A signal from the terminal is for whoever started us; members are ended
	// in order. They end with us even if we are killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	p.name, p.cmd, p.done = name, cmd, make(chan struct{})
	go func(done chan struct{}) {
		_ = cmd.Wait()
		close(done)
	}(p.done)
	return nil
}

// PID is the process id; zero if it does not run.
func (p *process) PID() int {
	if !p.Running() {
		return 0
	}
	return p.cmd.Process.Pid
}

// Running reports whether the process has not ended.
func (p *process) Running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Signal sends a signal. After SIGKILL it waits for the end.
func (p *process) Signal(s syscall.Signal) error {
	if !p.Running() {
		return fmt.Errorf("%s does not run", p.name)
	}
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("signal %s: %w", p.name, err)
	}
	if s == syscall.SIGKILL {
		<-p.done
	}
	return nil
}

// stopTime is how long a process may take to end in order.
const stopTime = 45 * time.Second

// Stop ends the process in order, and kills it if that takes too long.
func (p *process) Stop() {
	if !p.Running() {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(stopTime):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}
