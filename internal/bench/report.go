package bench

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"mailraft/internal/postfix"
)

// Report measures everything, and writes the document to file.
func (p Plan) Report(ctx context.Context, version, file string) error {
	began := time.Now()
	var f Figures
	p.after = func(ctx context.Context, s *system, rows []Row) error {
		n := 0
		for _, r := range rows {
			for _, run := range r.Runs {
				if r.System == s.name {
					n += run.Messages
				}
			}
		}
		return p.restart(ctx, s, n, &f)
	}
	rows, err := p.Run(ctx)
	if err != nil {
		return err
	}
	if err := p.fresh(ctx, &f); err != nil {
		return err
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer out.Close()
	host := fmt.Sprintf("%s; mailraft %s (%s), Postfix %s; %s", machine(p.Dir), version, runtime.Version(), postfix.Version(),
		began.UTC().Format(time.DateOnly))
	p.write(out, host, rows, f)
	Table(p.Out, rows)
	fmt.Fprintf(p.Out, "%s written after %s\n", file, time.Since(began).Round(time.Second))
	return out.Close()
}

func (p Plan) write(w io.Writer, host string, rows []Row, f Figures) {
	fmt.Fprintf(w, head, host, p.Rounds, p.Warm, p.Time)
	Table(w, rows)
	var foreign []float64
	for _, r := range rows {
		for _, run := range r.Runs {
			foreign = append(foreign, run.Foreign)
		}
	}
	fmt.Fprintf(w, "\nProcessor time that neither the system nor the generator used during a run (other work, and the kernel's own threads): median %.2f, most %.2f processors.\n",
		median(foreign), foreign[len(foreign)-1])
	if median(foreign) > busyMost {
		io.WriteString(w, busyText)
	}
	fmt.Fprintf(w, figures, f.RSS>>20, f.Idle, f.IdleRSS>>20, f.Loaded>>20, kills, f.Leader.Seconds(), kills, f.Owned, f.Takeover.Seconds(), f.Protected.Seconds(),
		f.Rows, f.Stopped.Seconds(), f.Rows, f.Killed.Seconds())
	io.WriteString(w, scenarios)
	io.WriteString(w, limits)
}

const head = `# Benchmarks

Written by ` + "`make bench`" + `, which measures again on your machine and disk (as root, with Debian's postfix installed: it starts one of its own on a
loopback port and leaves the host's alone).

%s.

## How mail is taken

Everything runs on one machine: the generator, Postfix, and three members that replicate to each other over loopback, all of them with their data on the
same disk. So mailraft syncs three copies of everything, on processors that it shares with the generator; Postfix syncs one.

- Generator: a closed loop. A session sends a message, waits for its answer and sends the next on the same connection; MAIL, RCPT and DATA are pipelined.
  Random content; sessions are spread over the three members.
- Postfix: own configuration and queue directory, accepts and holds (HOLD), one copy, its default syncing, logs to a file.
- mailraft: three voters, ` + "`queue suspend --all`" + `, default parameters, logs to a file. 250 after content is synced on two members and the entry is committed and applied.
- %d rounds in which the systems take turns at every load, the order turned around each time, after the disk has been synced; %s to warm up, %s counted.
  Medians; the ratio is the median of the ratios of the rounds. A figure alone says more about the machine than about the program.
- written/content: bytes that the processes caused to be written (write_bytes of /proc/PID/io: pages made dirty, without the file system's own metadata) for
  a byte of content, and member.
- CPU: of all processes of the system, the three members together.

`

// busyMost is more than the kernel's threads need for the disk.
const (
	busyMost = 0.5
	busyText = "\n**The machine was busy with something else. These ratios say little: measure again on one that is not.**\n"
)

const figures = `
## Other figures

| what | figure |
|---|---|
| memory of a fresh member (RSS) | %d MB |
| the same with %d idle sessions after EHLO | %d MB |
| memory of a member after all the loads above | %d MB |
| new leader after kill -9 of the leader, median of %d | %.1f s |
| takeover (shadow-resubmit-time-span 5s), median of %d: its %d or so active messages have another owner after kill -9 | %.1f s |
| re-protection after that: each of them has an owner, a shadow server and its copies again | %.1f s |
| start with %d rows after an orderly end, until it takes mail | %.1f s |
| start with %d rows after kill -9 | %.1f s |
`

// scenarios are figures of tests; written by hand.
const scenarios = `
## In scenarios

Printed by tests, of which anybody may ask again; here on the same machine, while it had much other work.

| what | figure | how |
|---|---|---|
| 2,000 messages wait (20 MB), 1,394 of them with the leader as owner or shadow server, span 5 s; it is killed: each has an owner and a shadow server that are up, and its copies | 8.6 s | ` + "`go test -tags e2e -run TestProtectedAgain -v ./internal/e2e`" + `: from the signal until listings by member and by what is lacking are empty; the election is in it |
| its disk is then wiped, and it joins anew: it votes, with the content of all that is to be delivered | 1.2 s | the same; from the wipe |
| a log of 1 GiB, what a member keeps at most by default (1.3 million entries of small mail), opens: every page is read and its checksum verified | 5.0 s | ` + "`go test -run ^$ -bench OpenLongLog ./store/raftlog`" + ` |
| one of 256 MiB | 0.7 s | the same |
`

// limits is what the profiles say; written by hand, and to be looked at again
// when the figures change.
const limits = `
## What limits

The processors, at every load with more than a few sessions: with two of them for everything, what a message costs on all three members together is the rate.
Of that, by the members' CPU profiles at 10 KB and 50 sessions: the log (bbolt: two syncs and a few pages for every batch of about ten entries) 14 %,
applying entries (CBOR, Pebble) 17 %, SMTP 15 %, content segments 9 % (two thirds of it in fdatasync), content to and from peers 11 % (half of it TLS), the
Go scheduler and allocator 15 %. At 75 KB a third is system calls that move bytes: every byte is read from the client, encrypted twice, sent and read twice,
and written three times.

With one session the latency counts: content synced on a majority, then the log's two syncs on the leader and on a follower, one after the other.

` + "`mailraft bench rounds --exe OLD --exe NEW`" + ` compares two binaries in the same way, and takes profiles with ` + "`--profiles DIR`" + `.
`
