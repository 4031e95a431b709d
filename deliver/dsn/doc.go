// Package dsn writes the message that tells a sender that recipients were
// given up: a multipart/report of RFC 3462 with a text for people, the fields
// of RFC 3464 for programs, and the header of the original.
//
// What it writes depends on its input alone: the same notice gives the same
// bytes, on every member. It reads no clock and sends nothing.
package dsn
