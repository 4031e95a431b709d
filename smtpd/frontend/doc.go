// Package frontend is one address in front of any number of members, of one
// boundary or of several: a stateless proxy for SMTP.
//
// It owns clients' sessions, certificates with which it is let in by the
// boundaries, and streams to their members. A transaction is handed over to a
// member while the client sends it; only the member's answer to the end of the
// message is passed on. It has no queue and holds no message, so any number of
// front ends may run side by side, and each may end at any moment: a client
// that has no answer sends again.
//
// What a session is, what is refused and how, is package smtpd's, the same for
// members and front ends. Which recipient is whose is the members' to say.
package frontend
