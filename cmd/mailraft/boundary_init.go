package main

import (
	"fmt"
	"strings"

	"mailraft/member"

	"github.com/urfave/cli/v2"
)

// boundaryInitCommand makes a new boundary in an empty data directory.
func boundaryInitCommand() *cli.Command {
	return &cli.Command{
		Name:  "init",
		Usage: "make a new boundary, its CA, and this host its first member",
		Flags: []cli.Flag{configFlag, &cli.StringFlag{Name: "name", Value: "mailraft", Usage: "`NAME` of the boundary"},
			&cli.StringSliceFlag{Name: "set", Usage: "`PARAMETER=VALUE` that the boundary begins with; see mailraft config show"}},
		Action: func(c *cli.Context) error {
			cfg, err := member.Load(c.String("config"))
			if err != nil {
				return badConfiguration(err)
			}
			if strings.TrimSpace(c.String("name")) == "" {
				return usageError("--name: a boundary has a name; what cannot be undone is confirmed by it")
			}
			set := map[string]string{}
			for _, s := range c.StringSlice("set") {
				name, value, ok := strings.Cut(s, "=")
				if !ok {
					return usageError("--set %s: want PARAMETER=VALUE", s)
				}
				set[name] = value
			}
			id, err := member.Init(cfg, c.String("name"), set)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.App.Writer, "boundary %s (%s) made; %s is its first member (queue database id %s).\nStart it:\n\n  mailraft serve --config %s\n\nthen invite the others:\n\n  mailraft --socket %s boundary token --uses 2\n",
				c.String("name"), id.Boundary, id.Name, id.ID, c.String("config"), cfg.Socket)
			return nil
		},
	}
}
