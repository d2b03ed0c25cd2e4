package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/portbook/portbook/indexer/database"
)

func primeCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "prime-db USER",
		Short: "Create a database user, or set its password, and grant its privileges",
		Long: `Creates a database user and grants the privileges that it needs: to read and write
the book, with --reader only to read it, with --migration to create and change its
tables. If the user exists, prime-db sets its password and grants what is missing.

The password is one line of standard input. It is not sent to the server and not
printed by --dry-run: both get a SCRAM-SHA-256 verifier.

It connects as database.migrationUser, which needs CREATEROLE. Without that, let
a superuser run the output of --dry-run.`,
		Example: `  portbook prime-db registry_app <password.txt
  portbook prime-db --reader registry_view <password.txt
  portbook prime-db --dry-run registry_app <password.txt | psql -U postgres registry`,
	}
	var u database.User
	flags := command.Flags()
	dryRun := flags.Bool("dry-run", false, "print the SQL, and do not connect")
	flags.BoolVar(&u.Reader, "reader", false, "the user may only read")
	flags.BoolVar(&u.Migration, "migration", false, "the user creates and changes the tables")
	command.MarkFlagsMutuallyExclusive("reader", "migration")
	command.Args = func(command *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("prime-db takes one user, and got %d: run portbook prime-db USER", len(args))
		}
		u.Name = args[0]
		return u.Check()
	}
	command.RunE = withDatabase(func(command *cobra.Command, p *parts) error {
		return prime(command, p.database, u, *dryRun)
	})
	return command
}

// prime runs prime-db for a user.
func prime(command *cobra.Command, connections *database.Connections, u database.User, dryRun bool) error {
	if err := connections.CheckUser(u); err != nil {
		return err
	}
	password, err := readPassword(command)
	if err != nil {
		return err
	}
	script, err := connections.PrimeScript(u, password)
	if err != nil {
		return err
	}
	if dryRun {
		_, err := io.WriteString(command.OutOrStdout(), script)
		return err
	}
	if err := connections.RunPrimeScript(command.Context(), script); err != nil {
		return fmt.Errorf("user %q was not changed: %w", u.Name, err)
	}
	fmt.Fprintf(command.OutOrStdout(), "user %q is ready: it may %s\n", u.Name, may(u))
	return nil
}

// may returns a text about what a user may do.
func may(u database.User) string {
	switch {
	case u.Migration:
		return "create and change tables in the schema (database.migrationUser)"
	case u.Reader:
		return "read the book (database.user of a reader)"
	}
	return "read and write the book (database.user)"
}

// readPassword reads one line, at a terminal twice and without showing it.
func readPassword(command *cobra.Command) (string, error) {
	in := command.InOrStdin()
	if file, ok := in.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		return askPassword(command.ErrOrStderr(), int(file.Fd()))
	}
	line, err := bufio.NewReader(io.LimitReader(in, database.PasswordLimit+2)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the password from standard input: %w", err)
	}
	return strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"), nil
}

func askPassword(out io.Writer, terminal int) (string, error) {
	var answers [2][]byte
	for i, prompt := range []string{"Password: ", "Again: "} {
		fmt.Fprint(out, prompt)
		answer, err := term.ReadPassword(terminal)
		fmt.Fprintln(out)
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		answers[i] = answer
	}
	if !bytes.Equal(answers[0], answers[1]) {
		return "", errors.New("the passwords differ: nothing was changed")
	}
	return string(answers[0]), nil
}
