package link

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailraft/cluster/pki"
	"mailraft/mail"
)

// What a broken or hostile caller sends ends its connection, and nothing else.
func TestServerCutsOffBrokenCallers(t *testing.T) {
	req := func(call uint64) []byte { return appendFrame(nil, frameRequest, call, []byte{0, 0, 0, 0, 1}) }
	flood := []byte{}
	for i := range inFlight + 1 {
		flood = append(flood, req(uint64(i))...)
	}
	for name, in := range map[string][]byte{
		"garbage":         bytes.Repeat([]byte("GET / HTTP/1.1\r\n"), 10),
		"too long":        binary.BigEndian.AppendUint32(nil, frameMax+1),
		"longest length":  {0xff, 0xff, 0xff, 0xff, 1},
		"too short":       {0, 0, 0, 8, 1, 0, 0, 0, 0, 0, 0, 0, 0},
		"unknown type":    appendFrame(nil, 99, 1),
		"type zero":       appendFrame(nil, 0, 1),
		"an answer":       appendFrame(nil, frameAnswer, 1),
		"short request":   appendFrame(nil, frameRequest, 1, []byte{0, 0}),
		"number used":     append(req(1), req(1)...),
		"too many":        flood,
		"a frame, a half": append(req(1), req(2)[:10]...),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := func(ctx context.Context, _ pki.Identity, _ byte, _ []byte) ([]byte, error) {
					<-ctx.Done()
					return nil, nil
				}
				w := newWire()
				ctx, stop := context.WithCancel(t.Context())
				served := make(chan error, 1)
				go func() { served <- Serve(ctx, w, h) }()
				c, err := w.dial(ctx, "a")
				if err != nil {
					t.Fatal(err)
				}
				go c.Write(append(in, bytes.Repeat([]byte{0}, 16)...)) // fails when it is cut off
				if name == "a frame, a half" {
					time.AfterFunc(time.Second, func() { c.Close() })
				}
				io.Copy(io.Discard, c)
				stop()
				<-served
			})
		})
	}
}

func TestClientCutsOffBrokenServers(t *testing.T) {
	for name, out := range map[string][]byte{
		"garbage":       bytes.Repeat([]byte("HTTP/1.1 400 Bad Request\r\n"), 10),
		"too long":      {0xff, 0xff, 0xff, 0xff, 2},
		"a request":     appendFrame(nil, frameRequest, 1, make([]byte, 5)),
		"not pending":   appendFrame(nil, frameAnswer, 7),
		"end in answer": appendFrame(nil, frameAnswer, 1, []byte("hello"))[:15],
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWire()
				var wg sync.WaitGroup
				defer wg.Wait()
				wg.Go(func() {
					conn, err := w.Accept()
					if err != nil {
						return
					}
					go io.Copy(io.Discard, conn)
					conn.Write(out)
					time.Sleep(time.Second)
					conn.Close()
				})
				c := NewClient(w.dial, nil)
				if _, err := c.Call(t.Context(), "a", 1, nil); !errors.Is(err, ErrUnknownOutcome) && !errors.Is(err, ErrUnreachable) {
					t.Error(err)
				}
				w.Close()
				c.Close()
			})
		})
	}
}

func TestMalformedReplyIsAnError(t *testing.T) {
	for _, body := range [][]byte{nil, {1}, {1, 2, 9, 'x'}} {
		if err := readError(frame{kind: frameReply, body: body}); !errors.Is(err, errFrame) {
			t.Errorf("%v: %v", body, err)
		}
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(appendFrame(nil, frameRequest, 7, []byte{0, 0, 1, 0, 3}, []byte("body")))
	f.Add(appendError(nil, 8, mail.Replyf(550, "5.1.1", "no such user")))
	f.Add(appendError(nil, 9, errors.New("x")))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1, 2, 3})
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		fr, err := readFrame(r)
		if err != nil {
			return
		}
		if len(fr.body) > frameMax {
			t.Fatalf("%d bytes", len(fr.body))
		}
		if again := appendFrame(nil, fr.kind, fr.call, fr.body); !bytes.Equal(again, in[:len(in)-r.Len()]) {
			t.Fatalf("%x was read as %x", in, again)
		}
		if fr.kind != frameReply && fr.kind != frameFailure {
			return
		}
		out, err := readFrame(bytes.NewReader(appendError(nil, fr.call, readError(fr))))
		if err != nil {
			t.Fatal(err)
		}
		if out.kind == fr.kind && len(fr.body) <= textMax && fr.kind == frameReply && !bytes.Equal(out.body, fr.body) {
			t.Fatalf("reply %x became %x", fr.body, out.body)
		}
	})
}
