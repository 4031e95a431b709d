// Package limit owns how much a client may do in a time: a token bucket for
// each network that clients come from, in memory that is bounded whatever the
// number of networks. It does not know what is counted, nor what a client is
// told.
package limit
