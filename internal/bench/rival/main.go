// Command rival runs what one would build a replicated mail queue on, so that
// mailraft can be measured beside it: nodes of NATS JetStream, and publishers
// for JetStream and for quorum queues of RabbitMQ.
//
// It is a module of its own: what it needs is no part of mailraft.
//
//	rival node NAME DIR CLIENT CLUSTER ROUTE,ROUTE,...   a JetStream node, until its standard input ends
//	rival load jetstream|rabbitmq URL,URL,...            a publisher: one Run per line of standard input
package main

import (
	"bufio"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// Run is one closed loop: every session publishes a message, waits until it is
// confirmed, and publishes the next.
type Run struct {
	Size, Sessions int
	Warm, Time     time.Duration
}

// Result is what a Run saw. The field names are those of bench.Result.
type Result struct {
	Messages  int
	Time      time.Duration
	Latencies []time.Duration
	Errors    int
	Error     string
}

// queue is a replicated queue that is empty at first. Open makes it, with so
// many publishers; the function that it returns publishes as the n-th of them.
type queue interface {
	Open(sessions int) (publish func(n int, body []byte) error, err error)
	Drop() error
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "rival:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("want: rival node NAME DIR CLIENT CLUSTER ROUTES, or rival load jetstream|rabbitmq URLS")

func run(args []string) error {
	switch {
	case len(args) == 6 && args[0] == "node":
		return serveNode(args[1], args[2], args[3], args[4], strings.Split(args[5], ","))
	case len(args) == 3 && args[0] == "load" && args[1] == "jetstream":
		return serveLoad(&jetStream{urls: args[2]})
	case len(args) == 3 && args[0] == "load" && args[1] == "rabbitmq":
		return serveLoad(&rabbit{urls: strings.Split(args[2], ",")})
	}
	return errUsage
}

// serveLoad reads a Run, answers with an empty line when the queue is there,
// waits for an empty line, and answers with a Result. An error is a line that
// begins with "!".
func serveLoad(q queue) error {
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadBytes('\n')
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		var r Run
		if err := json.Unmarshal(line, &r); err != nil {
			return err
		}
		publish, err := q.Open(r.Sessions)
		if err != nil {
			fmt.Println("!" + err.Error())
			continue
		}
		fmt.Println()
		if _, err := in.ReadBytes('\n'); err != nil {
			return err
		}
		answer, err := json.Marshal(r.run(publish))
		if err != nil {
			return err
		}
		if err := q.Drop(); err != nil {
			return err
		}
		fmt.Printf("%s\n", answer)
	}
}

// errorsMax ends a session that does not get on.
const errorsMax = 50

func (r Run) run(publish func(int, []byte) error) Result {
	begin := time.Now().Add(r.Warm)
	end := begin.Add(r.Time)
	res := Result{Time: r.Time}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for n := range r.Sessions {
		wg.Go(func() {
			body := make([]byte, r.Size) // random: both may compress
			rand.Read(body)
			for failed := 0; failed < errorsMax; {
				began := time.Now()
				if !began.Before(end) {
					return
				}
				err := publish(n, body)
				now := time.Now()
				mu.Lock()
				switch {
				case err != nil:
					failed++
					res.Errors++
					res.Error = err.Error()
				case !now.Before(begin) && now.Before(end):
					res.Messages++
					res.Latencies = append(res.Latencies, now.Sub(began))
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	slices.Sort(res.Latencies)
	return res
}
