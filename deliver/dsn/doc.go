// Package dsn writes the message that tells a sender what became of recipients:
// given up, delayed, delivered, relayed, or a group that was expanded. It is a
// multipart/report of RFC 3462 with a text for people, the fields of RFC 3464
// for programs, and the original or its header.
//
// What it writes depends on its input alone: the same notice gives the same
// bytes, on every member. It reads no clock and sends nothing.
package dsn
