// Package mx finds the hosts that take mail for a domain (RFC 5321 §5.1): by
// its MX records in their order, by its addresses where it has none, or nobody
// where it says so (RFC 7505).
//
// It asks resolvers itself, because it must tell apart what the standard
// library does not: a name that is not there, one that has no such record, and
// a resolver that cannot say. It remembers answers for as long as they allow,
// within bounds. It connects to no mail server.
package mx
