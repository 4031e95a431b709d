// Package torture runs a boundary of real processes under load while what can
// fail does, in an order that is drawn from a seed; then it lets all heal, and
// holds what arrived, and what the members say, against a ledger of every 250
// that was kept outside.
//
// It breaks no more at once than the promise covers: processes, links, clocks
// and full disks in any number, but of damaged or wiped disks one at a time, and
// the next only when all content is on all members again. It knows the command
// line, the admin API and the files of a data directory.
package torture
