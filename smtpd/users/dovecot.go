package users

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Dovecot asks Dovecot's authentication socket: the client's part of version 1
// of its protocol, lines of fields with tabs between them. A login has a
// connection of its own, so that it depends on no other.
type Dovecot struct {
	Socket string // path of the Unix socket, as of a service auth's unix_listener
}

// Bounds of what Dovecot may say.
const (
	dovecotLineMax  = 8 << 10
	dovecotLinesMax = 100              // before DONE
	dovecotTime     = 20 * time.Second // for a login; it takes two seconds to refuse one
)

// Authenticate proves a login.
func (d Dovecot) Authenticate(ctx context.Context, l Login) (User, error) {
	if !validName(l.Name) || len(l.Password) > passwordMax || strings.Contains(l.Password, "\x00") {
		return User{}, ErrDenied
	}
	ctx, cancel := context.WithTimeout(ctx, dovecotTime)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", d.Socket)
	if err != nil {
		return User{}, fmt.Errorf("ask Dovecot: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	u, err := dovecotLogin(conn, l)
	if err != nil && !errors.Is(err, ErrDenied) {
		err = fmt.Errorf("ask Dovecot on %s: %w", d.Socket, err)
	}
	return u, err
}

// dovecotLogin is the dialogue of one login.
func dovecotLogin(conn io.ReadWriter, l Login) (User, error) {
	// The number stands for a process. Two with the same one are refused, so it
	// is drawn, and not the process's own.
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	if _, err := fmt.Fprintf(conn, "VERSION\t1\t1\nCPID\t%d\n", binary.BigEndian.Uint32(b[:])>>1|1); err != nil {
		return User{}, err
	}
	lines := bufio.NewScanner(conn)
	lines.Buffer(make([]byte, 0, 1024), dovecotLineMax)
	if err := dovecotHandshake(lines); err != nil {
		return User{}, err
	}
	from := ""
	if l.Client.IsValid() {
		from = "\trip=" + l.Client.String()
	}
	response := base64.StdEncoding.EncodeToString([]byte("\x00" + l.Name + "\x00" + l.Password))
	if _, err := fmt.Fprintf(conn, "AUTH\t1\tPLAIN\tservice=smtp\tnologin\tsecured%s\tresp=%s\n", from, response); err != nil {
		return User{}, err
	}
	line, err := nextLine(lines)
	if err != nil {
		return User{}, err
	}
	return parseDovecot(line, 1)
}

// dovecotHandshake reads what Dovecot says of itself, up to DONE.
func dovecotHandshake(lines *bufio.Scanner) error {
	plain := false
	for range dovecotLinesMax {
		line, err := nextLine(lines)
		if err != nil {
			return err
		}
		f := strings.Split(line, "\t")
		switch f[0] {
		case "VERSION":
			if len(f) < 2 || f[1] != "1" {
				return fmt.Errorf("it speaks another version: %q", line)
			}
		case "MECH":
			plain = plain || len(f) > 1 && f[1] == "PLAIN"
		case "DONE":
			if !plain {
				return errors.New("it does not offer PLAIN (auth_mechanisms)")
			}
			return nil
		}
	}
	return errors.New("it does not come to an end")
}

func nextLine(lines *bufio.Scanner) (string, error) {
	if lines.Scan() {
		return lines.Text(), nil
	}
	if err := lines.Err(); err != nil {
		return "", err
	}
	return "", io.ErrUnexpectedEOF
}

// parseDovecot reads the answer to the request id.
func parseDovecot(line string, id uint32) (User, error) {
	f := strings.Split(line, "\t")
	if len(f) < 2 || f[1] != strconv.FormatUint(uint64(id), 10) {
		return User{}, errors.New("unexpected answer")
	}
	switch f[0] {
	case "OK":
		for _, p := range f[2:] {
			if name, ok := strings.CutPrefix(p, "user="); ok && validName(tabUnescape(name)) {
				return User{Name: tabUnescape(name)}, nil
			}
		}
		return User{}, errors.New("it names no user")
	case "FAIL":
		if slices.Contains(f[2:], "temp") || slices.Contains(f[2:], "code=temp_fail") {
			return User{}, errors.New("it cannot tell at the moment")
		}
		return User{}, ErrDenied
	}
	return User{}, errors.New("unexpected answer")
}

var tabEscapes = strings.NewReplacer("\x011", "\x01", "\x010", "\x00", "\x01t", "\t", "\x01r", "\r", "\x01n", "\n")

func tabUnescape(s string) string { return tabEscapes.Replace(s) }
