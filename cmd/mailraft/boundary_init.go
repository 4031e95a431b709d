package main

import (
	"fmt"

	"mailraft/member"

	"github.com/urfave/cli/v2"
)

// boundaryInitCommand makes a new boundary in an empty data directory.
func boundaryInitCommand() *cli.Command {
	return &cli.Command{
		Name:  "init",
		Usage: "make a new boundary, its CA, and this host its first member",
		Flags: []cli.Flag{configFlag, &cli.StringFlag{Name: "name", Value: "mailraft", Usage: "`NAME` of the boundary"}},
		Action: func(c *cli.Context) error {
			cfg, err := member.Load(c.String("config"))
			if err != nil {
				return badConfiguration(err)
			}
			id, err := member.Init(cfg, c.String("name"))
			if err != nil {
				return err
			}
			fmt.Fprintf(c.App.Writer, "boundary %s (%s) made; %s is its first member (queue database id %s).\nStart it:\n\n  mailraft serve --config %s\n\nthen invite the others:\n\n  mailraft --socket %s boundary token --uses 2\n",
				c.String("name"), id.Boundary, id.Name, id.ID, c.String("config"), cfg.Socket)
			return nil
		},
	}
}
