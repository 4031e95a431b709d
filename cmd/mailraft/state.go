package main

import (
	"fmt"
	"io"

	"mailraft/admin"

	"github.com/urfave/cli/v2"
)

func stateCommand() *cli.Command {
	return &cli.Command{
		Name: "state", Usage: "the replicated state",
		Subcommands: []*cli.Command{
			{Name: "hash", Usage: "ask every member for the hash of its state at the same entry",
				Description: "Exit code: 0 all members have the same, 1 they differ or one did not answer.",
				Flags:       flags(), Action: asking(0, 0, hashState)},
		},
	}
}

func hashState(s *session) error {
	var h admin.Hashes
	if err := s.client.Post(s.Context.Context, path("state/hash"), nil, s.order(), &h); err != nil {
		return err
	}
	id := ""
	if h.Equal {
		id = h.Items[0].Hash
	}
	err := show(s, h, id, func(w io.Writer) {
		t := table(w, "member\tindex\thash")
		for _, m := range h.Items {
			if m.Error != "" {
				t.row(m.Member, "-", m.Error)
			} else {
				t.row(m.Member, fmt.Sprint(m.Index), m.Hash)
			}
		}
		t.Flush()
	})
	if err == nil && !h.Equal {
		err = exit{exitFailed, fmt.Errorf("the states differ, or not every member answered")}
	}
	return err
}
