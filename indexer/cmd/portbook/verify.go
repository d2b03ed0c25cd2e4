package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/portbook/portbook/indexer/ingest"
)

func verifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Compare the book with the registry and print every difference",
		Long: `Compares the book with the registry, and the search rows with the manifests that
they are made from. Prints one line for each difference, and changes nothing. The
exit status is 1 if there is a difference.`,
		Example: `  portbook verify --config portbook.yaml
  portbook verify --config portbook.yaml >differences.txt`,
		Args: noArguments,
		RunE: withRegistry(verify),
	}
}

func verify(command *cobra.Command, p *parts) error {
	ctx := command.Context()
	n, err := ingest.Verify(ctx, p.store, p.remote, p.config.Scan.Parallelism, command.OutOrStdout())
	if err != nil {
		return err
	}
	if n == 0 {
		fmt.Fprintln(command.ErrOrStderr(), "no differences: the book equals the registry, and its search rows are correct")
		return nil
	}
	due, _, _, err := p.store.Backlog(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(command.ErrOrStderr(), "%d differences, %d references waiting to be read\n", n, due)
	return exitStatus(1)
}
