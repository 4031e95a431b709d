package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"mailraft/smtpd/users"

	"github.com/hashicorp/go-hclog"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

// userCommand changes the file of those who may send by AUTH. It needs no
// member: who runs one sees the file change.
func userCommand() *cli.Command {
	file := &cli.StringFlag{Name: "file", Required: true, TakesFile: true, Usage: "the `FILE` that smtp.auth.users names"}
	verb := func(name, usage string, most int, f func(c *cli.Context, file string) error, flags ...cli.Flag) *cli.Command {
		return &cli.Command{Name: name, Usage: usage, ArgsUsage: "NAME", Flags: append([]cli.Flag{file}, flags...), Action: func(c *cli.Context) error {
			if err := arguments(c, most, most); err != nil {
				return err
			}
			err := f(c, c.String("file"))
			if errors.Is(err, users.ErrNoUser) {
				return exit{exitNoSuch, fmt.Errorf("%s: %w", c.Args().First(), err)}
			}
			return err
		}}
	}
	return &cli.Command{
		Name: "user", Usage: "who may send mail by AUTH: a file of names and argon2id hashes",
		Description: "Passwords are asked for on the terminal, or are the first line of standard input. They are never arguments, which everybody\n" +
			"on the host can see. A running member reads the file again when it changes.",
		Subcommands: []*cli.Command{
			verb("add", "add a user; the file is made if it is not there", 1, addUser, &cli.StringSliceFlag{Name: "sender",
				Usage: "`ADDRESS` that it may send as besides its own; @DOMAIN: all of a domain; *: every address"}),
			verb("passwd", "give a user another password", 1, func(c *cli.Context, file string) error {
				password, err := newPassword(c)
				if err != nil {
					return err
				}
				return users.SetPassword(file, c.Args().First(), password)
			}),
			verb("remove", "remove a user", 1, func(c *cli.Context, file string) error { return users.Remove(file, c.Args().First()) }),
			verb("list", "list the users, and what they may send as", 0, listUsers,
				&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "table", Usage: "table, json, jsonl or id"}),
			verb("verify", "see whether a password is a user's: 0 if so, 77 if not", 1, verifyUser),
		},
	}
}

func addUser(c *cli.Context, file string) error {
	password, err := newPassword(c)
	if err != nil {
		return err
	}
	if err := users.Add(file, users.User{Name: c.Args().First(), Senders: c.StringSlice("sender")}, password); err != nil {
		return fmt.Errorf("add %s: %w", c.Args().First(), err)
	}
	return nil
}

func verifyUser(c *cli.Context, file string) error {
	f, err := users.OpenFile(file, hclog.NewNullLogger())
	if err != nil {
		return err
	}
	password, err := readPassword(c, "Password: ")
	if err != nil {
		return err
	}
	_, err = f.Authenticate(c.Context, users.Login{Name: c.Args().First(), Password: password})
	if errors.Is(err, users.ErrDenied) {
		return exit{exitNotAllowed, err}
	}
	if err == nil {
		fmt.Fprintln(c.App.Writer, c.Args().First()+": ok")
	}
	return err
}

// listedUser is a user as programs read it.
type listedUser struct {
	Name    string   `json:"name"`
	Senders []string `json:"senders,omitempty"`
}

func listUsers(c *cli.Context, file string) error {
	list, err := users.List(file)
	if err != nil {
		return err
	}
	items := []listedUser{}
	for _, u := range list {
		items = append(items, listedUser(u))
	}
	w := c.App.Writer
	switch c.String("output") {
	case "json":
		return json.NewEncoder(w).Encode(map[string]any{"items": items})
	case "jsonl":
		for _, u := range items {
			if err := json.NewEncoder(w).Encode(u); err != nil {
				return err
			}
		}
		return nil
	case "id":
		for _, u := range items {
			fmt.Fprintln(w, u.Name)
		}
		return nil
	case "table":
		t := table(w, "user\tmay send as, besides its own address")
		for _, u := range items {
			t.row(u.Name, orDash(strings.Join(u.Senders, " ")))
		}
		return t.Flush()
	}
	return usageError("--output %s: want table, json, jsonl or id", c.String("output"))
}

// newPassword is asked for twice on a terminal.
func newPassword(c *cli.Context) (string, error) {
	password, err := readPassword(c, "New password: ")
	if err != nil {
		return "", err
	}
	if password == "" {
		return "", errors.New("an empty password is none")
	}
	if f, ok := c.App.Reader.(*os.File); ok && echoes(f) {
		again, err := readPassword(c, "Once more: ")
		if err != nil {
			return "", err
		}
		if again != password {
			return "", errors.New("the two passwords differ")
		}
	}
	return password, nil
}

func echoes(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// readPassword reads a line: from a terminal without showing it.
func readPassword(c *cli.Context, prompt string) (string, error) {
	if f, ok := c.App.Reader.(*os.File); ok {
		if was, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err == nil {
			silent := *was
			silent.Lflag &^= unix.ECHO
			silent.Lflag |= unix.ECHONL
			fmt.Fprint(c.App.ErrWriter, prompt)
			if err := unix.IoctlSetTermios(int(f.Fd()), unix.TCSETSF, &silent); err != nil {
				return "", fmt.Errorf("turn the echo off: %w", err)
			}
			defer func() { _ = unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, was) }() // what cannot be restored was closed
		}
	}
	var line string
	var err error
	read := make(chan struct{})
	go func() { // a signal must end the waiting, and the terminal be restored
		defer close(read)
		line, err = bufio.NewReader(io.LimitReader(c.App.Reader, passwordMax)).ReadString('\n')
	}()
	select {
	case <-read:
	case <-c.Context.Done():
		return "", c.Context.Err()
	}
	if err != nil && (err != io.EOF || line == "") {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return strings.TrimRight(line, "\r\n"), nil
}

const passwordMax = 4096 // bytes that are read; it may have fewer
