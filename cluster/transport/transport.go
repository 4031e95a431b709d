// Package transport is Raft's transport over the cluster port:
// hashicorp/raft's NetworkTransport with a stream layer of ours, and with what
// its known faults ask for.
//
//   - Heartbeats take no fast path (hashicorp/raft #695): they would change the
//     term on the transport's goroutine, under the main loop, and two different
//     entries with the same index and term could be committed.
//   - No pipelining (#612): after one append that a follower rejects, the
//     pipeline stands still for ever while heartbeats go on.
//
// Both sides may say hello before the first RPC and refuse each other, votes
// included. It knows nothing of what a hello means, nor who is in the
// configuration.
package transport

import (
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"mailraft/cluster/port"
)

const (
	rpcTime = 10 * time.Second // one RPC: send, the follower's disk, and the reply
	poolMax = 3                // idle connections per peer
)

// Option changes a transport.
type Option func(*stream)

// WithHello makes both sides of every connection say hello before the first
// RPC, and refuse each other.
func WithHello(h Hello) Option { return func(s *stream) { s.hello = h } }

// Transport is a raft.Transport, and keeps raft.WithPreVote and
// raft.WithClose.
type Transport struct {
	*raft.NetworkTransport
	stream *stream
}

// New makes the transport of a member that others reach at advertise. It takes
// the port's listener for Raft.
func New(p *port.Port, advertise string, logger hclog.Logger, options ...Option) (raft.Transport, error) {
	if advertise == "" {
		return nil, errors.New("raft transport: no address to advertise")
	}
	if logger == nil {
		logger = hclog.NewNullLogger()
	}
	s := newStream(p, advertise, logger)
	for _, o := range options {
		o(s)
	}
	s.start()
	return &Transport{
		NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Stream:                  s,
			Logger:                  logger,
			MaxPool:                 poolMax,
			MaxRPCsInFlight:         1,
			Timeout:                 rpcTime,
			MsgpackUseNewTimeFormat: true,
		}),
		stream: s,
	}, nil
}

// SetHeartbeatHandler ignores the handler, as raft.Transport allows: the main
// loop then takes heartbeats in turn, like any other RPC.
func (t *Transport) SetHeartbeatHandler(func(raft.RPC)) {}

// Close closes the listener and every connection in both directions;
// NetworkTransport alone would leave the pooled and the accepted ones open.
func (t *Transport) Close() error {
	err := t.NetworkTransport.Close()
	t.CloseStreams()
	t.stream.closeAll()
	if err != nil {
		return fmt.Errorf("close raft transport: %w", err)
	}
	return nil
}
