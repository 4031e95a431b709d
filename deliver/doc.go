// Package deliver takes the messages that this member owns to their
// destinations: it asks for due work, runs deliveries, decides when to try
// again, and reports what became of each recipient.
//
// It is one loop with one timer and one kick; due work is a query, and a
// goroutine exists only for a delivery that is running. How a message is
// handed over is the business of a Transport (packages remote and maildir).
// It knows neither Raft nor the store: the queue, the content, the reports
// and the lease are interfaces of one or two methods, declared here.
//
// DESIGN.md says what is promised about duplicates, loops and limits.
package deliver
