package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"mailraft/member"

	"github.com/hashicorp/go-hclog"
	"github.com/urfave/cli/v2"
)

var configFlag = &cli.StringFlag{Name: "config", Required: true, Usage: "the member's configuration `FILE`", TakesFile: true}

// serveCommand runs a member: the same command on the first start, after a
// crash and after joining.
func serveCommand() *cli.Command {
	return &cli.Command{
		Name:  "serve",
		Usage: "run a member",
		Flags: []cli.Flag{configFlag},
		Action: func(c *cli.Context) error {
			slacken()
			cfg, err := member.Load(c.String("config"))
			if err != nil {
				return badConfiguration(err)
			}
			collectLater(cfg.MemoryMax())
			return serve(cfg, newLogger(cfg))
		},
	}
}

// serve runs the member until a signal; a member that has to be started anew
// is.
func serve(cfg member.Config, log hclog.Logger) error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	for {
		m, err := member.Start(cfg, log, nil)
		if errors.Is(err, member.ErrNoIdentity) || errors.Is(err, member.ErrUnusable) {
			return badConfiguration(err)
		}
		if err != nil {
			return err
		}
		select {
		case <-stop:
			signal.Stop(stop) // a second one ends the process at once
			m.Stop()
			return nil
		case why := <-m.Restart():
			log.Warn("starting anew", "reason", why)
			m.Stop()
		}
	}
}

// collectLater lets the heap grow further than Go does by itself before garbage
// is collected: what a member keeps is small (tens of megabytes, which a cache
// makes up in good part), and what it lets go of with every message is not. Near
// what the process may use garbage is collected sooner. GOGC and GOMEMLIMIT in
// the environment go before.
func collectLater(memoryMax int64) {
	const heapGrowth = 300 // percent
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(heapGrowth)
	}
	if os.Getenv("GOMEMLIMIT") == "" && memoryMax > 0 {
		debug.SetMemoryLimit(memoryMax / 10 * 9)
	}
}

// newLogger writes text to a terminal and JSON elsewhere.
func newLogger(cfg member.Config) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Name: cfg.Name, Level: hclog.LevelFromString(cfg.LogLevel), Output: os.Stderr,
		JSONFormat: cfg.LogJSON || !isTerminal(os.Stderr)})
}

func waitForSignal() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	<-stop
	signal.Stop(stop) // a second one ends the process at once
}

// badConfiguration gives an error the exit code of a bad configuration.
func badConfiguration(err error) error { return cli.Exit(fmt.Sprintf("mailraft: %v", err), 78) }
