//go:build e2e

package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// download writes what users find over IMAP, each message to a file of a
// Maildir of its user, so that it can be audited as a Maildir is.
func (d *dovecot) download(users ...string) string {
	d.t.Helper()
	dir := d.t.TempDir()
	for _, user := range users {
		to := filepath.Join(dir, user, "new")
		if err := os.MkdirAll(to, 0o700); err != nil {
			d.t.Fatal(err)
		}
		if err := fetchInbox(d.imap, user, to); err != nil {
			d.t.Fatalf("IMAP for %s: %v", user, err)
		}
	}
	return dir
}

// fetchInbox writes each message of a user's INBOX to a file of its own.
func fetchInbox(addr, user, dir string) error {
	nc, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return err
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := fmt.Fprintf(nc, "a LOGIN %s none\r\nb EXAMINE INBOX\r\nc UID FETCH 1:* (BODY.PEEK[])\r\nd LOGOUT\r\n", user); err != nil {
		return err
	}
	for r, n := bufio.NewReader(nc), 0; ; {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		line = strings.TrimRight(line, "\r\n")
		switch tag, status, _ := strings.Cut(line, " "); {
		case tag == "d" && strings.HasPrefix(status, "OK"):
			return nil
		case len(tag) == 1 && tag >= "a" && tag <= "d" && !strings.HasPrefix(status, "OK"):
			return fmt.Errorf("%s", line)
		case !strings.HasSuffix(line, "}"):
			continue
		}
		var size int64
		if _, err := fmt.Sscanf(line[strings.LastIndexByte(line, '{'):], "{%d}", &size); err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
		n++
		if err := writeFile(filepath.Join(dir, fmt.Sprint(n)), io.LimitReader(r, size), size); err != nil {
			return err
		}
	}
}

func writeFile(path string, from io.Reader, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if n, err := io.Copy(f, from); err != nil || n != size {
		return fmt.Errorf("%d of %d bytes: %w", n, size, err)
	}
	return f.Close()
}
