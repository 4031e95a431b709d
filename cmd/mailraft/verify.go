package main

import (
	"fmt"

	"mailraft/member"

	"github.com/urfave/cli/v2"
)

// verifyCommand looks at a data directory without its member.
func verifyCommand() *cli.Command {
	return &cli.Command{
		Name: "verify", Usage: "read a data directory through, offline, and print what is damaged; changes nothing",
		Flags: []cli.Flag{&cli.StringFlag{Name: "dir", Usage: "the data `DIR`", Required: true}},
		Action: func(c *cli.Context) error {
			if err := arguments(c, 0, 0); err != nil {
				return err
			}
			dir := c.String("dir")
			found, err := member.Verify(dir, c.App.Writer)
			if err != nil {
				return err
			}
			if found > 0 {
				return fmt.Errorf("%s: %d places are damaged. Damaged content is fetched from other members when the member runs; with a damaged state or log it must join anew", dir, found)
			}
			fmt.Fprintln(c.App.Writer, dir+": ok")
			return nil
		},
	}
}
