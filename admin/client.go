package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"
)

// ErrUnreachable reports, wrapped, that no member answered.
var ErrUnreachable = errors.New("no member reachable")

// Client asks one member over its Unix socket.
type Client struct {
	http http.Client
	path string
}

// NewClient makes a client of the member whose socket lies at path.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	return &Client{http: http.Client{Transport: &http.Transport{DialContext: dial}}, path: path}
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Get reads the JSON answer of a path into v.
func (c *Client) Get(ctx context.Context, path string, q url.Values, v any) error {
	body, err := c.Open(ctx, path, q, "application/json")
	return decode(body, err, v)
}

// Post sends a JSON body and reads the answer into v.
func (c *Client) Post(ctx context.Context, path string, q url.Values, body, v any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	r, err := c.do(ctx, http.MethodPost, path, q, bytes.NewReader(b), "application/json")
	return decode(r, err, v)
}

// Open returns the body of an answer as it comes. It must be closed.
func (c *Client) Open(ctx context.Context, path string, q url.Values, accept string) (io.ReadCloser, error) {
	return c.do(ctx, http.MethodGet, path, q, nil, accept)
}

// Save returns a backup as it comes. It must be closed.
func (c *Client) Save(ctx context.Context) (io.ReadCloser, error) {
	return c.do(ctx, http.MethodPost, "/v1/snapshot", nil, nil, TypeBackup)
}

// Each reads a listing item by item.
func Each[T any](ctx context.Context, c *Client, path string, q url.Values, f func(T) error) error {
	body, err := c.Open(ctx, path, q, TypeLines)
	if err != nil {
		return err
	}
	defer body.Close()
	d := json.NewDecoder(body)
	for {
		var item T
		switch err := d.Decode(&item); {
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("read answer: %w", err)
		}
		if err := f(item); err != nil {
			return err
		}
	}
}

func decode(body io.ReadCloser, err error, v any) error {
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(v); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	return nil
}

func (c *Client) do(ctx context.Context, method, path string, q url.Values, body io.Reader, accept string) (io.ReadCloser, error) {
	plainPath, err := url.PathUnescape(path)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	u := url.URL{Scheme: "http", Host: "member", Path: plainPath, RawPath: path, RawQuery: q.Encode()}
	r, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	r.Header.Set("Accept", accept)
	answer, err := c.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrUnreachable, c.path, plain(err))
	}
	if answer.StatusCode/100 == 2 {
		return answer.Body, nil
	}
	defer answer.Body.Close()
	var e struct{ Error *Problem }
	if err := json.NewDecoder(answer.Body).Decode(&e); err != nil || e.Error == nil {
		return nil, problem(answer.StatusCode, "%s %s: %s", method, path, answer.Status)
	}
	return nil, e.Error
}

// plain drops the URL, which says nothing on a Unix socket.
func plain(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// Listen opens the Unix socket of a member at path, for its own user only. A
// socket that a dead process left behind is replaced; one that is answered is
// not.
func Listen(path string) (net.Listener, error) {
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		conn.Close()
		return nil, fmt.Errorf("open socket %s: another member answers there", path)
	}
	if i, err := os.Lstat(path); err == nil {
		if i.Mode().Type() != os.ModeSocket {
			return nil, fmt.Errorf("open socket %s: something else is there", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("replace socket: %w", err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("open socket: %w", err)
	}
	return l, nil
}
