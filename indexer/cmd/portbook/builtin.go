package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version of the program",
		Example: "  portbook version",
		Args:    noArguments,
		Run: func(command *cobra.Command, _ []string) {
			fmt.Fprintf(command.OutOrStdout(), "portbook version %s\n", programVersion())
		},
	}
}

// completeCobra adds what cobra's own commands, help and completion, lack: examples,
// and errors for wrong arguments.
func completeCobra(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, command := range root.Commands() {
		switch command.Name() {
		case "help":
			command.Args = knownCommand
			command.Example = "  portbook help migrate down"
		case "completion":
			group(command)
			command.Example = "  portbook completion bash >/etc/bash_completion.d/portbook"
			for _, shell := range command.Commands() {
				shell.Args = noArguments
				shell.Example = "  portbook completion " + shell.Name()
			}
		}
	}
}

// knownCommand checks the arguments of help, which name a command.
func knownCommand(command *cobra.Command, args []string) error {
	found, rest, err := command.Root().Find(args)
	if err != nil || len(rest) == 0 {
		return err
	}
	return noArguments(found, rest)
}
