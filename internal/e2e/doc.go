// Package e2e holds the scenarios with real processes: a boundary of three
// members, foreign mail programs as clients and servers, members killed,
// stopped and brought back under load, and a ledger of every 250 kept outside.
//
// Its tests have the build tag e2e and run by "make e2e"; they listen on
// loopback only, and each ends by itself. Most of them mostly wait, and so run
// two at a time; those that measure something have the machine to themselves.
package e2e
