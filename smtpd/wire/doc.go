// Package wire is the connection between the network and an unmodified go-smtp
// server. It terminates TLS, implicit and STARTTLS, so go-smtp only ever sees
// clear text from it: one clean command line at a time, and of every message
// nothing but the final dot. It owns command framing, the EHLO list, CHUNKING,
// the bytes of a message, timeouts and the reply stream.
//
// go-smtp never hears of BDAT: the first chunk of a message is told to it as
// DATA, and the chunks are read here. So a message has one goroutine, the one
// that go-smtp serves the connection with, and everything in a Conn belongs to
// it except what mu guards.
//
// It knows no addresses (but for a bare postmaster), no policy and no queue.
package wire
