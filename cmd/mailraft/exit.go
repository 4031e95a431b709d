package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"

	"mailraft/admin"

	"github.com/urfave/cli/v2"
)

// Exit codes, those of sysexits.h where it has them.
const (
	exitFailed      = 1
	exitUsage       = 64
	exitNoSuch      = 66
	exitUnreachable = 69
	exitNoQuorum    = 75
	exitNotAllowed  = 77
	exitConfig      = 78
)

// exit is an error with its exit code; without text it is silent.
type exit struct {
	code int
	err  error
}

func (e exit) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e exit) Unwrap() error { return e.err }

// ExitCode implements cli.ExitCoder.
func (e exit) ExitCode() int { return e.code }

func usageError(format string, a ...any) error {
	return exit{exitUsage, fmt.Errorf(format, a...)}
}

// misused is what a flag that does not parse becomes.
func misused(c *cli.Context, err error, _ bool) error {
	name := c.App.Name
	if c.Command != nil && c.Command.HelpName != "" {
		name = c.Command.HelpName
	}
	return usageError("%w; see: %s --help", err, name)
}

var statusCodes = map[int]int{
	http.StatusBadRequest: exitUsage, http.StatusNotFound: exitNoSuch,
	http.StatusForbidden: exitNotAllowed, http.StatusServiceUnavailable: exitNoQuorum,
}

func exitCode(err error) int {
	var e cli.ExitCoder
	var p *admin.Problem
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e.ExitCode()
	case strings.HasPrefix(err.Error(), "Required flag"): // cli has no type for it
		return exitUsage
	case errors.As(err, &p):
		if code, ok := statusCodes[p.Status]; ok {
			return code
		}
		return exitFailed
	case errors.Is(err, fs.ErrPermission):
		return exitNotAllowed
	case errors.Is(err, admin.ErrUnreachable):
		return exitUnreachable
	default:
		return exitFailed
	}
}

// explain is what a person is told of an error, with what to do about it.
func explain(err error) string {
	var p *admin.Problem
	switch {
	case err == nil:
		return ""
	case errors.As(err, &p) && p.Enhanced != "":
		return fmt.Sprintf("%s (%d %s)", p.Text, p.Code, p.Enhanced)
	case errors.Is(err, fs.ErrPermission) && errors.Is(err, admin.ErrUnreachable):
		return err.Error() + "\nthe socket is for the user that mailraft runs as"
	case errors.Is(err, admin.ErrUnreachable):
		return err.Error() + "\nis the member running? --socket PATH or MAILRAFT_SOCKET says where its socket is"
	default:
		return strings.TrimPrefix(err.Error(), "mailraft: ")
	}
}
