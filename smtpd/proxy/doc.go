// Package proxy owns the header of the PROXY protocol, versions 1 and 2, with
// which a load balancer or the front end says whom a connection is from. It
// does not know whom to believe: that is for the listener to say.
package proxy
