// Package reply owns every reply that a client of the SMTP server can be
// given: code, enhanced code, text, and when. Whoever answers a client, from
// the lines of the dialogue to the entry that is applied, takes the reply from
// here, and docs/smtp.md is made from here: a reply that is not described
// cannot be given. It does not know who gives a reply, nor how it is sent.
package reply
