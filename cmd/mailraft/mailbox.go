package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"time"

	"mailraft/deliver/mailbox"
	"mailraft/mail"

	"github.com/hashicorp/go-hclog"
	"github.com/urfave/cli/v2"
)

// mailboxCommand serves Maildirs by LMTP, for a mailbox store on one host.
func mailboxCommand() *cli.Command {
	return &cli.Command{
		Name:  "mailbox",
		Usage: "serve Maildirs by LMTP: the store of a database copy on this host",
		Description: "The copy is then lmtp://ADDR. Whoever reaches ADDR can deliver: let it be reachable by members only.\n" +
			"Duplicates are recognised for --retain, which should be safety-net-hold-time + message-expiration-timeout.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "listen", Value: "127.0.0.1:2424", Usage: "`ADDR` to listen on"},
			&cli.StringFlag{Name: "dir", Required: true, Usage: "`DIR` of the copy: a Maildir in it for each mailbox"},
			&cli.StringFlag{Name: "retain", Value: "4d", Usage: "how long a message is recognised as had"},
		},
		Action: serveMailbox,
	}
}

func serveMailbox(c *cli.Context) error {
	retain, err := mail.ParseDuration(c.String("retain"))
	if err != nil {
		return usageError("--retain: %v", err)
	}
	dir, err := filepath.Abs(c.String("dir"))
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", c.String("listen"))
	if err != nil {
		return err
	}
	log := hclog.New(&hclog.LoggerOptions{Name: "mailbox", Output: os.Stderr})
	s := mailbox.New(mailbox.Options{Dir: dir, Host: host, Retain: func() time.Duration { return retain },
		Now: func() mail.Time { return mail.At(time.Now()) }, Create: true, Logger: log})
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	log.Info("serving Maildirs by LMTP", "address", l.Addr().String(), "dir", dir)
	waitForSignal()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		return err
	}
	return <-done
}
