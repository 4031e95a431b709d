package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"mailraft/mail"
)

// A frame is 4 bytes of length, big endian, of what follows: 1 byte of type,
// 8 bytes of call number, and a body by type:
//
//	request  4 bytes of time left in milliseconds (0: no limit), 1 byte of kind, the request
//	answer   the answer
//	reply    2 bytes of code, 1 byte of length, the enhanced code, the text
//	failure  the text of an error
//	cancel   nothing: the caller has gone
//	ping     nothing; the other side sends pong
//	pong     nothing
const (
	frameRequest = 1 + iota
	frameAnswer
	frameReply
	frameFailure
	frameCancel
	framePing
	framePong
)

const (
	bodyMax   = 1 << 20 // bytes of a request or an answer
	textMax   = 2 << 10 // bytes of an error's text
	headSize  = 4 + 1 + 8
	frameMax  = 1 + 8 + 5 + bodyMax // what the length field may say
	frameMin  = 1 + 8
	inFlight  = 1024     // calls per connection, if they are small
	unitBytes = 32 << 10 // a call takes one place of inFlight, and one more for each of these
)

var errFrame = errors.New("malformed frame")

// frame is one that was read; body is its own.
type frame struct {
	kind byte
	call uint64
	body []byte
}

// appendFrame writes a frame whose body is the given parts.
func appendFrame(b []byte, kind byte, call uint64, parts ...[]byte) []byte {
	n := frameMin
	for _, p := range parts {
		n += len(p)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	b = append(b, kind)
	b = binary.BigEndian.AppendUint64(b, call)
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// readFrame reads one frame. Its length is bounded before memory is given.
func readFrame(r io.Reader) (frame, error) {
	var head [headSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return frame{}, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < frameMin || n > frameMax {
		return frame{}, fmt.Errorf("%w: %d bytes", errFrame, n)
	}
	f := frame{kind: head[4], call: binary.BigEndian.Uint64(head[5:])}
	if f.kind < frameRequest || f.kind > framePong {
		return frame{}, fmt.Errorf("%w: type %d", errFrame, f.kind)
	}
	f.body = make([]byte, n-frameMin)
	if _, err := io.ReadFull(r, f.body); err != nil {
		return frame{}, fmt.Errorf("%w: cut short: %w", errFrame, err)
	}
	return f, nil
}

// places is how much of a connection's room a request takes.
func places(body int) int { return 1 + body/unitBytes }

// appendError writes an error of a handler as an answer.
func appendError(b []byte, call uint64, err error) []byte {
	var r *mail.Reply
	if !errors.As(err, &r) {
		return appendFrame(b, frameFailure, call, []byte(cut(err.Error(), textMax)))
	}
	enhanced := cut(r.Enhanced, 255)
	head := binary.BigEndian.AppendUint16(nil, uint16(r.Code))
	head = append(head, byte(len(enhanced)))
	return appendFrame(b, frameReply, call, head, []byte(enhanced), []byte(cut(r.Text, textMax)))
}

// readError is the reverse of appendError.
func readError(f frame) error {
	if f.kind == frameFailure {
		return Error(strings.ToValidUTF8(string(f.body), "\uFFFD"))
	}
	if len(f.body) < 3 || len(f.body) < 3+int(f.body[2]) {
		return fmt.Errorf("%w: reply of %d bytes", errFrame, len(f.body))
	}
	n := 3 + int(f.body[2])
	return &mail.Reply{
		Code:     int(binary.BigEndian.Uint16(f.body)),
		Enhanced: string(f.body[3:n]),
		Text:     string(f.body[n:]),
	}
}

func cut(s string, most int) string {
	if len(s) > most {
		s = s[:most]
	}
	return s
}
