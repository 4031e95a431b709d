// Package resubmit keeps mailbox databases supplied: it watches their copies,
// activates another one when the active one is lost, and drives the requests
// by which mail is sent again.
//
// Watch runs on every member and probes; Manager and Driver run on the leader.
// The Manager, Exchange's Active Manager, decides by what a majority finds; the
// Driver moves requests on, as fast as rates and back pressure let it. What a
// request sends, who serves it, and what an activation changes is decided where
// entries are applied: this package sees copies, findings and requests, and
// ways to propose, and keeps nothing that a new leader would need.
//
// DESIGN.md says what is promised.
package resubmit
