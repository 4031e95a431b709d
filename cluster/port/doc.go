// Package port is the one cluster port of a member: TLS 1.3 with certificates
// on both sides, split by ALPN (RFC 7301) into Raft, link, content, join,
// what front ends ask and hand over, and the HTTP/2 API.
//
// Who the other side is comes from its certificate (package pki) and from
// nothing else: no host name or address is checked. Raft, link and content are
// for members, two protocols for front ends, and the API for members and
// clients; a member always answers. Join alone is without a client certificate,
// because a joiner has none yet. Whether an identity is still
// welcome is asked of the owner at every handshake, on both sides, and Drop
// closes what a removed member has open.
//
// After the handshake the listening side says in one byte that the connection
// was taken, or why not, so that Dial fails with a reason instead of the first
// read. HTTP/2 has no room for that byte, and goes without.
//
// It knows nothing of what is said on a connection, and keeps no credentials:
// they are read anew at each handshake, so a renewed certificate is used
// without a restart.
package port
