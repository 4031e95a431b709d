package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// usage is what processes have used up to a moment.
type usage struct {
	cpu     time.Duration
	written int64 // bytes that they caused to be sent to the disk: pages made dirty, metadata not counted
}

// tick is the unit of /proc's CPU times: USER_HZ, 100 on all of Linux.
const tick = 10 * time.Millisecond

// used adds up the processes and the ended children that they waited for.
func used(pids []int) usage {
	var u usage
	for _, pid := range pids {
		f := statFields(pid)
		if len(f) < 15 {
			continue // it has ended
		}
		for _, i := range []int{11, 12, 13, 14} { // utime, stime, cutime, cstime
			n, _ := strconv.ParseInt(f[i], 10, 64)
			u.cpu += time.Duration(n) * tick
		}
		n, _ := strconv.ParseInt(field(pid, "io", "write_bytes:"), 10, 64)
		u.written += n
	}
	return u
}

// statFields are the words of /proc/PID/stat behind the command's name, which
// may hold blanks.
func statFields(pid int) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	_, rest, _ := strings.Cut(string(b[strings.LastIndexByte(string(b), ')'):]), " ")
	return strings.Fields(rest)
}

// field is the word behind a name in a file of /proc/PID.
func field(pid int, file, name string) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name {
			return f[1]
		}
	}
	return ""
}

// resident is the memory that a process holds, in bytes.
func resident(pid int) int64 {
	kib, _ := strconv.ParseInt(field(pid, "status", "VmRSS:"), 10, 64)
	return kib << 10
}

// family is a process and all its descendants.
func family(root int) []int {
	all := []int{root}
	stats, _ := filepath.Glob("/proc/[0-9]*")
	parent := map[int]int{}
	for _, dir := range stats {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if f := statFields(pid); len(f) > 1 {
			parent[pid], _ = strconv.Atoi(f[1])
		}
	}
	for i := 0; i < len(all); i++ {
		for pid, p := range parent {
			if p == all[i] && !slices.Contains(all, pid) {
				all = append(all, pid)
			}
		}
	}
	return all
}

// busy is the time that all processors together were not idle.
func busy() time.Duration {
	b, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(b), "\n")
	var n int64
	for i, f := range strings.Fields(line) {
		if i == 0 || i == 4 || i == 5 || i == 8 || i == 9 { // the name; idle and iowait; guests, counted already
			continue
		}
		v, _ := strconv.ParseInt(f, 10, 64)
		n += v
	}
	return time.Duration(n) * tick
}

// own is this process' CPU time: the generator's.
func own() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
