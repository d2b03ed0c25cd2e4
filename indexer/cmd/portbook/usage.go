package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/portbook/portbook/indexer/database"
)

// The exit statuses of errors.
const (
	statusFailed = 1 // the command failed, or a check found differences
	statusUsage  = 2 // the command line is wrong: an unknown command or flag, a wrong argument
)

// A usageError is an error in the command line.
type usageError struct {
	command *cobra.Command
	err     error
}

func (e *usageError) Error() string {
	return fmt.Sprintf("%s; see `%s --help`", oneLine(e.err.Error()), e.command.CommandPath())
}

func (e *usageError) Unwrap() error { return e.err }

// oneLine replaces control characters, which a mistyped argument may contain.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}

// refuseWrongUsage makes every error in the command line of a command or its
// subcommands a usageError.
func refuseWrongUsage(command *cobra.Command) {
	check := command.Args
	command.Args = func(command *cobra.Command, args []string) error {
		if err := cmp.Or(check(command, args), command.ValidateFlagGroups()); err != nil {
			return &usageError{command, err}
		}
		return nil
	}
	command.SetFlagErrorFunc(func(command *cobra.Command, err error) error { return &usageError{command, err} })
	for _, sub := range command.Commands() {
		refuseWrongUsage(sub)
	}
}

// noArguments refuses arguments. After a command with subcommands, an argument is
// an unknown subcommand.
func noArguments(command *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case !command.HasSubCommands():
		return fmt.Errorf("%s takes no argument, and got %q", command.CommandPath(), args[0])
	}
	err := fmt.Errorf("%s has no command %q", command.CommandPath(), args[0])
	if similar := command.SuggestionsFor(args[0]); len(similar) > 0 {
		err = fmt.Errorf("%w (did you mean %s?)", err, strings.Join(similar, " or "))
	}
	return err
}

// group adds subcommands to a command. Without a subcommand, the command shows its
// help.
func group(command *cobra.Command, subcommands ...*cobra.Command) *cobra.Command {
	command.Args = noArguments
	command.RunE = func(command *cobra.Command, _ []string) error { return command.Help() }
	command.SuggestionsMinimumDistance = 2 // the most letters that a suggestion may differ in
	command.AddCommand(subcommands...)
	return command
}

// An exitStatus ends the program without a further message.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// status returns the exit status for an error of a command, and writes its message.
func status(err error, out io.Writer) int {
	var (
		quiet exitStatus
		usage *usageError
	)
	switch {
	case err == nil:
		return 0
	case errors.As(err, &quiet):
		return int(quiet)
	}
	fmt.Fprintln(out, "portbook:", database.Explain(err))
	if errors.As(err, &usage) {
		return statusUsage
	}
	return statusFailed
}
