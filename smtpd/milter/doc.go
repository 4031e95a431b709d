// Package milter asks mail filters about mail before it is accepted: Rspamd,
// OpenDKIM, ClamAV and others that speak Sendmail's milter protocol, version 2
// to 6. A Filter is one such program and what is known of it, a Session what
// one SMTP client's session is at all of them.
//
// It is a client of our own: DESIGN.md of smtpd says why. It holds one header
// field, one piece of the body and what filters ask to be changed, whatever the
// size of the message.
//
// It knows no queue, no directory and no configuration file. What filters ask
// for is handed back as a Result; whether a recipient may be added is for the
// caller to find out.
package milter
