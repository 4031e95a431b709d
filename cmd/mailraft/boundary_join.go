package main

import (
	"fmt"

	"mailraft/member"

	"github.com/urfave/cli/v2"
)

// boundaryJoinCommand makes an empty data directory a member of a boundary.
func boundaryJoinCommand() *cli.Command {
	return &cli.Command{
		Name:      "join",
		Usage:     "make this host a member of a boundary",
		ArgsUsage: "HOST:PORT of any member's cluster port",
		Flags:     []cli.Flag{configFlag, tokenFlag()},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usageError("boundary join wants one HOST:PORT, the cluster port of any member")
			}
			cfg, err := member.Load(c.String("config"))
			if err != nil {
				return badConfiguration(err)
			}
			token, err := readToken(c)
			if err != nil {
				return err
			}
			id, err := member.Join(c.Context, cfg, c.Args().First(), token)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.App.Writer, "%s has joined boundary %s (queue database id %s). Start it:\n\n  mailraft serve --config %s\n",
				id.Name, id.Boundary, id.ID, c.String("config"))
			return nil
		},
	}
}
