package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"mailraft/admin"
)

// demoSlack is subtracted from what copy b is known to hold: the demo's copy
// was made at a known moment, an hour would only make it send more that b has.
const demoSlack = "2s"

// failover is the second half of the story: a database whose active copy dies,
// and another copy of it that is behind.
type failover struct {
	missing   int // messages that b lacked when a died
	activated time.Duration
	again     time.Duration // until everything that b lacked was there
	request   admin.OneRequest
}

func (d *demo) copyDir(name string) string { return filepath.Join(d.mail, "DB1", name) }

// copyDatabase makes copy b out of copy a, as a backup would. Deliveries to
// the database are suspended meanwhile.
func (d *demo) copyDatabase(ctx context.Context) error {
	through := time.Now()
	if err := os.CopyFS(d.copyDir("b"), os.DirFS(d.copyDir("a"))); err != nil {
		return fmt.Errorf("copy the database: %w", err)
	}
	_, err := d.b.CLI(ctx, "database", "copy", "add", "DB1", "b=maildir:"+d.copyDir("b"),
		"--data-through", through.UTC().Format(time.RFC3339Nano), "--replication-slack", demoSlack)
	if err != nil {
		return err
	}
	a, err := d.ledger.Audit(d.copyDir("b"))
	d.say("  DB1 has a second copy now, made of the %d messages that were there; nothing replicates to it", a.Delivered)
	return err
}

// failDatabase lets the active copy die, and waits until mail goes to the
// other and everything that it lacked is there.
func (d *demo) failDatabase(ctx context.Context) error {
	if err := d.delivered(ctx, d.copyDir("a")); err != nil {
		return fmt.Errorf("wait until all mail is in copy a: %w", err)
	}
	behind, err := d.ledger.Audit(d.copyDir("b"))
	if err != nil {
		return err
	}
	d.fail.missing = len(behind.Lost)
	if err := d.destroy("a"); err != nil {
		return err
	}
	died := time.Now()
	d.say("\nThe disk of copy a dies. Copy b lacks %d messages that a had taken.", d.fail.missing)
	if err := d.activated(ctx); err != nil {
		return fmt.Errorf("wait until copy b is active: %w", err)
	}
	d.fail.activated = time.Since(died)
	d.say("  the Active Manager has activated copy b after %s, and asked for what it lacks", seconds(d.fail.activated))
	if err := d.resubmitted(ctx); err != nil {
		return fmt.Errorf("wait for the resubmit request: %w", err)
	}
	if err := d.delivered(ctx, d.copyDir("b")); err != nil {
		return fmt.Errorf("wait until all mail is in copy b: %w", err)
	}
	d.fail.again = time.Since(died)
	t := d.fail.request.Total
	d.say("  request %s is %s: %d sent again, %d of them were in b already and are shown once", d.fail.request.ID, d.fail.request.State, t.Sent, t.Duplicates)
	return nil
}

// destroy puts a file where the copy's directory was: whoever delivers there
// or probes it fails, as with a disk that is gone.
func (d *demo) destroy(name string) error {
	dir := d.copyDir(name)
	if err := os.Rename(dir, dir+".dead"); err != nil {
		return err
	}
	return os.WriteFile(dir, nil, 0o600)
}

// delivered waits until all that was accepted is below dir.
func (d *demo) delivered(ctx context.Context, dir string) error {
	return poll(ctx, func() (bool, error) {
		a, err := d.ledger.Audit(dir)
		return len(a.Lost) == 0, err
	})
}

func (d *demo) activated(ctx context.Context) error {
	return poll(ctx, func() (bool, error) {
		var db admin.One[admin.Database]
		err := d.ask(ctx, &db, "database", "show", "DB1")
		return db.Item.Active == "b", err
	})
}

// resubmitted waits until the activation's request has ended.
func (d *demo) resubmitted(ctx context.Context) error {
	var db admin.One[admin.Database]
	if err := d.ask(ctx, &db, "database", "show", "DB1"); err != nil {
		return err
	}
	return poll(ctx, func() (bool, error) {
		err := d.ask(ctx, &d.fail.request, "resubmit", "show", db.Item.Request)
		return !d.fail.request.Ended.IsZero(), err
	})
}

// ask runs a command and reads its JSON.
func (d *demo) ask(ctx context.Context, into any, command ...string) error {
	out, err := d.b.CLI(ctx, append(command, "-o", "json")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		return fmt.Errorf("read the answer of mailraft %v: %w", command, err)
	}
	return nil
}
