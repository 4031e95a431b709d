// Package fsm is the replicated state machine: the commands of the boundary,
// their encoding, and what applying each of them does to the state tables.
//
// It owns the rows (messages, members, parameters, directory, databases) and
// every rule of a message's life: who owns it, who shadows it, when it is
// finished, acknowledged and expired. Applying is a pure function of the
// tables and the entry: no clock, no randomness, no map order, no I/O but the
// tables. Time comes in the entry. It knows no network, no SMTP and no disk
// but through package state.
//
// The design, with the commit point of each command, is in DESIGN.md.
package fsm
