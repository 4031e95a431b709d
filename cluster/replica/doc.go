// Package replica brings content to the other members of the boundary and
// fetches what this one lacks.
//
// An Upload goes to the own disk and to all peers while the client still
// sends; it counts as stored when a majority of the voters, this member among
// them, has synced it to the last byte and confirmed size and checksum. Pull
// fetches one content from any peer that has it. A peer that does not keep up
// is left out of an upload as long as a majority does.
//
// It does not know what a content is for: no rows, no entries, no Raft. What
// was uploaded and never named by an entry is removed by others. Disks and
// connections are passed in. DESIGN.md has the protocol and the arguments.
package replica
