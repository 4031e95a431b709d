// Package content keeps the content of messages, the bytes as received, in one
// member's append-only segment files.
//
// Many sessions write at once; one appender puts their records behind each
// other and lets all that wait share one sync. A content exists from that sync
// on, until Sweep is told that nobody wants it any more. Whatever is read is
// checked against its checksum first: damaged content is never handed out.
//
// The package knows nothing of messages, rows, members or clocks: who wants a
// content, and until when, is asked of the caller. DESIGN.md has the layout,
// the commit point of each operation and what happens after a crash.
package content
