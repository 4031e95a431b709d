package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"mailraft/admin"
	"mailraft/backup"
	"mailraft/member"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
	"github.com/hashicorp/go-hclog"
	"github.com/urfave/cli/v2"
)

// snapshotCommand saves a boundary to a file, and makes another one of it.
func snapshotCommand() *cli.Command {
	quiet := &cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print no progress"}
	output := &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "table", Usage: "`FORM`: table or json; tables are for people"}
	return &cli.Command{
		Name: "snapshot", Usage: "back a boundary up, and restore it",
		Subcommands: []*cli.Command{
			{Name: "save", ArgsUsage: "FILE|-", Usage: "write state and content to a file, or to standard output, while mail goes on",
				Description: `The state is that of one entry of the log, as the member that is asked has it; the content is all that this state names.
The file holds mail, and hashes of secrets: it is written for its owner alone, and is neither compressed nor encrypted
(mailraft snapshot save - | zstd | age …). What is written is checked on the way; a file under the name that was asked for is whole.
Exit code 1 if the file is whole, and lacks content that no member could give.`,
				Flags: append(memberFlags()[:1], quiet, output), Action: save},
			{Name: "inspect", ArgsUsage: "FILE|-", Usage: "read a backup through, and say what is in it",
				Flags: []cli.Flag{quiet, output}, Action: inspect},
			{Name: "restore", ArgsUsage: "FILE|-", Usage: "make a new boundary of a backup, with this host as its first member",
				Description: `The boundary has an identity and a CA of its own; the other members join it with tokens and empty data directories. It delivers nothing
before "mailraft queue resume --all", since it does not know what was delivered after the backup. docs/operate.md has the whole way.`,
				Flags: []cli.Flag{configFlag, quiet, output,
					&cli.StringFlag{Name: "name", Usage: "`NAME` of the new boundary; default: as it was"},
					&cli.StringFlag{Name: "reason", Usage: "`TEXT` that is kept with who and when"}}, Action: restore},
		},
	}
}

// progress prints how far a backup is, now and then.
func progress(c *cli.Context) func(h backup.Head, contents, bytes int64) {
	if c.Bool("quiet") {
		return nil
	}
	const every = 2 * time.Second
	next := time.Now().Add(every)
	return func(h backup.Head, contents, bytes int64) {
		if now := time.Now(); now.After(next) {
			next = now.Add(every)
			fmt.Fprintf(c.App.ErrWriter, "%s of %s contents, %s of %s\n", humanize.Comma(contents), humanize.Comma(h.Contents), size(bytes), size(h.Bytes))
		}
	}
}

// backupForm checks how the answer is to be printed.
func backupForm(c *cli.Context) error {
	if o := c.String("output"); o != "table" && o != "json" {
		return usageError("-o %s: want table or json", o)
	}
	return arguments(c, 1, 1)
}

func save(c *cli.Context) error {
	if err := backupForm(c); err != nil {
		return err
	}
	return asking(1, 1, func(s *session) error {
		body, err := s.client.Save(s.Context.Context)
		if err != nil {
			return err
		}
		defer body.Close()
		file := c.Args().First()
		if file == "-" {
			h, t, err := receive(c, body, c.App.Writer)
			if err == nil {
				err = printBackup(c, c.App.ErrWriter, h, t)
			}
			return err
		}
		h, t, err := saveFile(c, body, file)
		if err == nil {
			err = printBackup(c, c.App.Writer, h, t)
		}
		return err
	})(c)
}

// receive passes a backup on and checks it.
func receive(c *cli.Context, body io.Reader, w io.Writer) (backup.Head, backup.Tail, error) {
	h, t, err := backup.Check(io.TeeReader(body, w), progress(c))
	if errors.Is(err, backup.ErrDamaged) {
		err = fmt.Errorf("the member did not send the backup to its end, and its log says why: %w", err)
	}
	return h, t, err
}

// saveFile puts a whole backup under its name, or none.
func saveFile(c *cli.Context, body io.Reader, file string) (h backup.Head, t backup.Tail, err error) {
	if _, err := os.Lstat(file); err == nil {
		return h, t, fmt.Errorf("%s is there already: choose another name", file)
	}
	partial := file + ".partial"
	f, err := os.OpenFile(partial, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		return h, t, fmt.Errorf("%s is there: another backup is being saved, or one was cut short; remove it", partial)
	}
	if err != nil {
		return h, t, fmt.Errorf("save: %w", err)
	}
	h, t, err = receive(c, body, f)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(partial, file)
	}
	if err == nil {
		err = syncName(file)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(partial))
	}
	return h, t, err
}

func syncName(file string) error {
	d, err := os.Open(filepath.Dir(file))
	if err != nil {
		return fmt.Errorf("save: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// openBackup opens a file, or standard input.
func openBackup(c *cli.Context) (io.ReadCloser, error) {
	if file := c.Args().First(); file != "-" {
		return os.Open(file)
	}
	return io.NopCloser(c.App.Reader), nil
}

func inspect(c *cli.Context) error {
	if err := backupForm(c); err != nil {
		return err
	}
	f, err := openBackup(c)
	if err != nil {
		return err
	}
	defer f.Close()
	h, t, err := backup.Check(f, progress(c))
	if err != nil {
		return err
	}
	return printBackup(c, c.App.Writer, h, t)
}

// printBackup says what is in a backup; what is not there is an error.
func printBackup(c *cli.Context, w io.Writer, h backup.Head, t backup.Tail) error {
	if c.String("output") == "json" {
		if err := pretty(w, map[string]any{"backup": h, "contents": t}); err != nil {
			return err
		}
	} else {
		printHead(w, h, t)
	}
	if t.Absent > 0 {
		return fmt.Errorf("%s that messages name could be had from no member, and are not in the backup (-o json names some)", plural(int(t.Absent), "content"))
	}
	return nil
}

func printHead(w io.Writer, h backup.Head, t backup.Tail) {
	n := t.Counts
	fmt.Fprintf(w, "Backup of boundary %s (%s), generation %d, as of entry %d, %s\nmade by %s, version %s; sha256 %s\n\n", h.Name, h.Boundary, h.Generation, h.Index, h.Time, h.Member, h.Version, t.SHA256)
	p := table(w, "")
	p.row("messages", fmt.Sprintf("%s, %s to be delivered, %s in the Safety Net", humanize.Comma(n.Messages), humanize.Comma(n.Active), humanize.Comma(n.Finished)))
	p.row("accepted", orDash(n.Oldest.String())+" to "+orDash(n.Newest.String()))
	p.row("state", size(t.State))
	p.row("content", fmt.Sprintf("%s, %s", english.Plural(int(t.Contents), "content", ""), size(t.Bytes)))
	if t.Expired > 0 {
		p.row("expired meanwhile", english.Plural(int(t.Expired), "content", ""))
	}
	if t.Absent > 0 {
		p.row("ABSENT", english.Plural(int(t.Absent), "content", ""))
	}
	p.Flush()
	if len(n.Databases) == 0 {
		return
	}
	fmt.Fprintln(w)
	p = table(w, "database\tto deliver\tdelivered\tbytes\tfrom\tto")
	for _, d := range n.Databases {
		p.row(d.Name, humanize.Comma(d.Pending), humanize.Comma(d.Delivered), size(d.Bytes), orDash(d.Oldest.String()), orDash(d.Newest.String()))
	}
	p.Flush()
}

func restore(c *cli.Context) error {
	if err := backupForm(c); err != nil {
		return err
	}
	cfg, err := member.Load(c.String("config"))
	if err != nil {
		return badConfiguration(err)
	}
	f, err := openBackup(c)
	if err != nil {
		return err
	}
	defer f.Close()
	log := hclog.New(&hclog.LoggerOptions{Name: "restore", Level: hclog.Warn, Output: c.App.ErrWriter})
	r, err := member.Restore(cfg, f, member.RestoreOrder{Name: c.String("name"), By: whoami(), Reason: c.String("reason"), Progress: progress(c)}, log)
	if err != nil {
		return err
	}
	if c.String("output") == "json" {
		return pretty(c.App.Writer, r)
	}
	fmt.Fprintf(c.App.Writer, "boundary %s (%s) made of the backup of %s: %s, %s to be delivered; %s is its first member (queue database id %s).\n",
		r.Name, r.Boundary, r.Of.Time, english.Plural(int(r.Counts.Messages), "message", ""), humanize.Comma(r.Counts.Active), r.Member, r.MemberID)
	if r.Unheld > 0 {
		fmt.Fprintf(c.App.Writer, "%s wait for content that was not in the backup: mailraft message list --state %s\n", english.Plural(r.Unheld, "message", ""), admin.StateLost)
	}
	fmt.Fprintf(c.App.Writer, "Nothing is delivered yet. Start it:\n\n  mailraft serve --config %s\n\ninvite the others, with empty data directories:\n\n  mailraft --socket %s boundary token --uses 2\n\nlook at what is there, and then have it delivered:\n\n  mailraft --socket %s queue resume --all\n",
		c.String("config"), cfg.Socket, cfg.Socket)
	return nil
}
