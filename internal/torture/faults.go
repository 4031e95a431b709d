package torture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"mailraft/admin"
	"mailraft/internal/loopback"
)

// cannot says why a fault is left out here; empty: it is not.
func (r *run) cannot(f Fault) string {
	switch f {
	case Isolate, Deaf, Mute:
		if r.net == nil {
			return "links are cut in network namespaces, as root"
		}
	case Lossy:
		if r.net == nil || !r.net.lossy {
			return "the kernel has no netem, or this is no namespace"
		}
	case Full, Tight:
		if !r.disks {
			return "small disks are mounted in a namespace, as root"
		}
	case Clock:
		if !bentClocks {
			return "this binary was built without the tag testclock"
		}
	case SlowDisk, BadDisk:
		if !bentDisks {
			return "this binary was built without the tag testdisk"
		}
	}
	return ""
}

// begin lets something fail, and returns what ends it.
func (r *run) begin(s Step) (end func()) {
	m := r.b.Members[s.Member]
	none := func() {}
	switch s.Fault {
	case Kill:
		return r.kill(s.Member)
	case KillTwo:
		return r.kill(s.Member, (s.Member+1)%members)
	case KillAll:
		return r.kill(0, 1, 2)
	case Freeze:
		r.do(m.Signal(syscall.SIGSTOP))
		return func() { r.do(m.Signal(syscall.SIGCONT)) }
	case Restart:
		m.Stop()
		r.do(m.Start())
	case Isolate, Deaf, Mute:
		return r.cutOff(s)
	case Lossy:
		r.do(r.net.lose(s.Member))
		return func() { r.do(r.net.lossless(s.Member)) }
	case Full, Tight:
		return r.fill(s)
	case SlowDisk:
		return r.spoilDisk(s.Member, fmt.Sprint(time.Duration(20+s.Draw%400)*time.Millisecond))
	case BadDisk:
		return r.spoilDisk(s.Member, "fail")
	case Clock:
		off := time.Duration(s.Draw%uint64(96*time.Hour)) - 48*time.Hour
		r.do(writeAtOnce(r.clockFile(s.Member), off.String()))
		return func() { r.do(writeAtOnce(r.clockFile(s.Member), "0s")) }
	case Wipe, FlipMail, CutMail, FlipLog, FlipRows:
		r.harm(s)
	default:
		return r.operate(s.Fault, s.Draw)
	}
	return none
}

// alongside lets a lesser thing happen while the other lasts.
func (r *run) alongside(s Step) (end func()) {
	if s.Beside == "" || s.Fault == Failover || s.Fault == Activate || s.Fault == Lead {
		return func() {}
	}
	return r.operate(s.Beside, s.Draw)
}

// operate is what happens to mailbox servers, and what operators do. It may be
// refused: there may be no quorum.
func (r *run) operate(f Fault, draw uint64) (end func()) {
	switch f {
	case Failover:
		s := r.sinks[draw%2]
		if active, err := r.active(); err == nil {
			s = active
		}
		s.die()
		return func() { r.do(s.live()) }
	case Activate:
		if active, err := r.active(); err == nil {
			_, err = r.cli("database", "activate", "DB2", "--copy", r.other(active).name)
			r.refused(f, err)
		}
	case Resubmit:
		_, err := r.cli("resubmit", "add", "--database", "DB2", "--start", "30s")
		r.refused(f, err)
	case Lead:
		_, err := r.cli("boundary", "transfer-leader")
		r.refused(f, err)
	}
	return func() {}
}

func (r *run) refused(f Fault, err error) {
	if err != nil {
		r.say("%s: %.200s", f, err.Error())
	}
}

// do is for what must work on this machine.
func (r *run) do(err error) {
	if err != nil {
		r.say("not done: %v", err)
	}
}

func (r *run) kill(which ...int) (end func()) {
	for _, i := range which { // all of them before anybody sees the first one gone
		if pid := r.b.Members[i].PID(); pid != 0 {
			r.do(syscall.Kill(pid, syscall.SIGKILL))
		}
	}
	for _, i := range which {
		if r.b.Members[i].Running() {
			_ = r.b.Members[i].Signal(syscall.SIGKILL) // waits for its end
		}
	}
	return func() {
		for _, i := range which {
			r.do(r.b.Members[i].Start())
		}
	}
}

func (r *run) cutOff(s Step) (end func()) {
	var pairs [][2]int
	for k := range members {
		if k == s.Member {
			continue
		}
		if s.Fault != Mute {
			pairs = append(pairs, [2]int{k, s.Member})
		}
		if s.Fault != Deaf {
			pairs = append(pairs, [2]int{s.Member, k})
		}
	}
	for _, p := range pairs {
		r.do(r.net.cut(p[0], p[1]))
	}
	return func() {
		for _, p := range pairs {
			r.do(r.net.heal(p[0], p[1]))
		}
	}
}

// fill leaves no byte of a member's disk, or less than must stay free.
func (r *run) fill(s Step) (end func()) {
	dir := r.b.Members[s.Member].Dir
	file := filepath.Join(dir, "filler")
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		r.do(err)
		return func() {}
	}
	size := int64(st.Bavail) * st.Bsize
	if s.Fault == Tight {
		size -= 20 << 20
	} else {
		r.ends[s.Member] = true
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		for err = syscall.ENOSPC; errors.Is(err, syscall.ENOSPC) && size > 0; size -= 64 << 10 { // the member writes meanwhile
			err = syscall.Fallocate(int(f.Fd()), 0, 0, size)
		}
		f.Close()
	}
	r.do(err)
	return func() { r.do(os.Remove(file)) }
}

func (r *run) spoilDisk(i int, text string) (end func()) {
	r.ends[i] = true
	r.do(writeAtOnce(r.diskFile(i), text))
	return func() { r.do(writeAtOnce(r.diskFile(i), "")) }
}

// writeAtOnce puts a text into a file that somebody reads meanwhile.
func writeAtOnce(file, text string) error {
	tmp := file + ".new"
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, file)
}

// active is the mailbox server that mail goes to.
func (r *run) active() (*sink, error) {
	var d admin.One[admin.Database]
	if err := r.read(&d, "database", "show", "DB2"); err != nil {
		return nil, err
	}
	for _, s := range r.sinks {
		if s.name == d.Item.Active {
			return s, nil
		}
	}
	return nil, fmt.Errorf("copy %q is the active one", d.Item.Active)
}

func (r *run) other(s *sink) *sink {
	if s == r.sinks[0] {
		return r.sinks[1]
	}
	return r.sinks[0]
}

// aliveTime is how long a member is watched for ending again at once.
const aliveTime = 1500 * time.Millisecond

// revive starts who has ended. Only what was done to it may have ended it.
func (r *run) revive() {
	for i, m := range r.b.Members {
		if m.Running() {
			continue
		}
		if !r.ends[i] {
			r.violation("%s has ended by itself: %s", m.Name, m.LastWords())
		} else {
			r.say("%s has ended, as it must: %.300s", m.Name, m.LastWords())
		}
		r.do(m.Start())
		r.pause(aliveTime)
		if !m.Running() {
			r.violation("%s does not start any more: %s", m.Name, m.LastWords())
			r.replace(i, m)
		}
	}
	clear(r.ends)
}

// replace wipes a member and lets it back in.
func (r *run) replace(i int, m *loopback.Member) {
	ctx, cancel := context.WithTimeout(r.ctx, time.Minute)
	defer cancel()
	for {
		err := r.b.Replace(ctx, m)
		if err == nil {
			break
		}
		if r.say("%s cannot come back yet: %.200s", m.Name, err.Error()); ctx.Err() != nil {
			r.violation("%s could not be replaced: %v", m.Name, err)
			return
		}
		r.pause(time.Second)
	}
	r.harmed[i] = time.Now()
}
