package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/portbook/portbook/indexer/access"
)

func keysCommand() *cobra.Command {
	return group(&cobra.Command{
		Use: "keys", Short: "Make and rotate the keys that sign tokens for the registry",
		Long: `Changes the file that auth.keys names. The registry reads the public keys from a file of
its own, once, when it starts. So a key is replaced in three steps, each of which is
one run of rotate, which says what to do before the next one.`,
		Example: `  portbook keys rotate /etc/portbook/keys.json
  portbook keys public /etc/portbook/keys.json >/etc/registry/jwks.json`,
	}, &cobra.Command{
		Use: "rotate FILE", Short: "Make the first key, or take the next step from one key to another",
		Example: "  portbook keys rotate /etc/portbook/keys.json",
		Args:    oneFile,
		RunE: func(command *cobra.Command, args []string) error {
			keys, err := readKeys(args[0])
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			next, step := keys.Rotate()
			if err := writeSecret(args[0], next.Marshal()); err != nil {
				return err
			}
			fmt.Fprintln(command.OutOrStdout(), afterStep[step])
			return nil
		},
	}, &cobra.Command{
		Use: "public FILE", Short: "Print the public keys, for the registry",
		Example: "  portbook keys public /etc/portbook/keys.json >/etc/registry/jwks.json",
		Args:    oneFile,
		RunE: func(command *cobra.Command, args []string) error {
			keys, err := readKeys(args[0])
			if err != nil {
				return err
			}
			_, err = command.OutOrStdout().Write(keys.Public())
			return err
		},
	})
}

// afterStep says what to do after each step of a rotation.
var afterStep = map[access.RotationStep]string{
	access.KeyMade: "The file has a first key. " + giveKeys + ".",
	access.KeyAdded: "The file has a second key, which does not sign yet. " + giveKeys +
		". Then run this command again.",
	access.KeySigns: "The second key signs now. Wait six minutes, until the tokens of the first one have expired," +
		" and run this command again. That step ends sessions and other logins that last, if the first one signed them.",
	access.KeyRemoved: "The first key is gone. " + giveKeys + ".",
}

const giveKeys = "Give the public keys to the registry (portbook keys public) and restart it"

// oneFile is the Args of a command that takes a file.
func oneFile(command *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%s takes one file, and got %d arguments", command.CommandPath(), len(args))
	}
	return nil
}

func readKeys(path string) (access.Keys, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return access.Keys{}, err
	}
	keys, err := access.ParseKeys(raw)
	if err != nil {
		return keys, fmt.Errorf("%s: %w", path, err)
	}
	return keys, nil
}

// writeSecret replaces a file as a whole, so that a program which reads it meanwhile sees the
// old content or the new one. Only its owner can read it.
func writeSecret(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it has been renamed
	if _, err := f.Write(content); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
