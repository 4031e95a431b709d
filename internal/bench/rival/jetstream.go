package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// serveNode runs one of three JetStream nodes. SyncAlways is what makes its
// acknowledgement mean the same as a 250 here: on disk at a majority.
func serveNode(name, dir, client, cluster string, routes []string) error {
	o := &server.Options{ServerName: name, JetStream: true, StoreDir: dir, SyncAlways: true, NoSigs: true, LogFile: dir + "/log"}
	var err error
	if o.Host, o.Port, err = hostPort(client); err != nil {
		return err
	}
	o.Cluster.Name = "rival"
	if o.Cluster.Host, o.Cluster.Port, err = hostPort(cluster); err != nil {
		return err
	}
	for _, r := range routes {
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats", Host: r})
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	s, err := server.NewServer(o)
	if err != nil {
		return err
	}
	s.ConfigureLogger()
	s.Start()
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	s.Shutdown()
	s.WaitForShutdown()
	return nil
}

func hostPort(addr string) (string, int, error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	port, err := strconv.Atoi(text)
	return host, port, err
}

// connectionsMax is how many connections the publishers share.
const connectionsMax = 8

const (
	streamName = "MAIL"
	subject    = "mail.in"
	patience   = 20 * time.Second
)

// jetStream is a work queue on three nodes, in files.
type jetStream struct {
	urls  string
	conns []jetstream.JetStream
}

func (j *jetStream) Open(int) (func(int, []byte) error, error) {
	for len(j.conns) < connectionsMax {
		nc, err := nats.Connect(j.urls)
		if err != nil {
			return nil, fmt.Errorf("connect to JetStream: %w", err)
		}
		js, err := jetstream.New(nc)
		if err != nil {
			return nil, err
		}
		j.conns = append(j.conns, js)
	}
	if err := j.make(); err != nil {
		return nil, err
	}
	return func(n int, body []byte) error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_, err := j.conns[n%len(j.conns)].Publish(ctx, subject, body)
		return err
	}, nil
}

// make waits until the nodes have found each other.
func (j *jetStream) make() (err error) {
	for began := time.Now(); time.Since(began) < patience; time.Sleep(100 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), patience/4)
		_, err = j.conns[0].CreateStream(ctx, jetstream.StreamConfig{Name: streamName, Subjects: []string{subject},
			Storage: jetstream.FileStorage, Replicas: 3, Retention: jetstream.WorkQueuePolicy})
		cancel()
		if err == nil || errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return nil
		}
	}
	return fmt.Errorf("make a stream: %w", err)
}

func (j *jetStream) Drop() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return j.conns[0].DeleteStream(ctx, streamName)
}
