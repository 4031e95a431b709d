package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
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
	more, err := p.besides(ctx)
	if err != nil {
		return err
	}
	notes, err := handwritten(file)
	if err != nil {
		return err
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer out.Close()
	host := fmt.Sprintf("%s; mailraft %s (%s), Postfix %s; %s", machine(p.Dir), version, runtime.Version(), postfix.Version(),
		began.UTC().Format(time.DateOnly))
	p.write(out, host, rows, f, more, notes)
	Table(p.Out, rows)
	fmt.Fprintf(p.Out, "%s written after %s\n", file, time.Since(began).Round(time.Second))
	return out.Close()
}

// handHeading begins the part of the document that is written by hand: what
// scenarios and other benchmarks print, and what the profiles say.
const handHeading = "## In scenarios\n"

// handwritten is that part of the document that is there, which stays.
func handwritten(file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the document: %w", err)
	}
	if i := bytes.Index(text, []byte("\n"+handHeading)); i >= 0 {
		return text[i+1:], nil
	}
	return nil, fmt.Errorf("%s has no %q, the first heading that is written by hand: it would be lost", file, strings.TrimSpace(handHeading))
}

func (p Plan) write(w io.Writer, host string, rows []Row, f Figures, more besides, notes []byte) {
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
	more.write(w)
	io.WriteString(w, "\n")
	w.Write(notes)
}

const head = `# Benchmarks

Written by ` + "`make bench`" + `, which measures again on your machine and disk (as root, with Debian's postfix installed: it starts one of its own on a
loopback port and leaves the host's alone).

%s.

## How mail is taken

Everything runs on one machine: the generator, Postfix, and three members that replicate to each other over loopback, all of them with their data on the
same disk. So mailraft syncs three copies of everything, on processors that it shares with the generator; Postfix syncs one. JetStream and RabbitMQ are what
one might build such a queue on: three nodes each, which take bytes by their own protocols and know nothing of mail.

- Generator: a closed loop. A session sends a message, waits for its answer and sends the next on the same connection; MAIL, RCPT and DATA are pipelined.
  Random content; sessions are spread over the three members.
- Postfix: own configuration and queue directory, accepts and holds (HOLD), one copy, its default syncing, logs to a file.
- mailraft: three voters, ` + "`queue suspend --all`" + `, default parameters, logs to a file. 250 after content is synced on two members and the entry is committed and applied;
  TLS between the members.
- JetStream: nats-server 2.15, a file stream with three replicas, ` + "`sync_interval: always`" + `, 8 connections; no TLS between the nodes. RabbitMQ: Debian's, a quorum queue on three
  nodes, 6 connections, a channel for each session; no TLS. A session publishes, waits for the confirmation, and publishes the next.
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
