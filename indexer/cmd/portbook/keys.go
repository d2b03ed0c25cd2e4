package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/config"
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

func registryConfigCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "registry-config", Short: "Print the part of the registry's configuration that makes it trust our tokens",
		Long: `Prints the section auth of the registry's configuration for auth.keys. The
realm, to which the registry sends clients for a token, is below registry.public_url:
clients refuse one on another host than the registry's.`,
		Example: "  portbook registry-config --jwks /etc/registry/jwks.json",
		Args:    noArguments,
	}
	jwks := command.Flags().String("jwks", "/etc/registry/jwks.json", "`file` of the registry with the public keys")
	command.RunE = func(command *cobra.Command, _ []string) error {
		c, _, err := load(command, false)
		if err != nil {
			return err
		}
		section, err := registryAuth(c, *jwks)
		if err != nil {
			return err
		}
		e := yaml.NewEncoder(command.OutOrStdout())
		e.SetIndent(2)
		return errors.Join(e.Encode(section), e.Close())
	}
	return command
}

type registrySection struct {
	Auth struct {
		Token registryToken `yaml:"token"`
	} `yaml:"auth"`
}

type registryToken struct {
	Realm             string   `yaml:"realm"`
	Service           string   `yaml:"service"`
	Issuer            string   `yaml:"issuer"`
	JWKS              string   `yaml:"jwks"`
	SigningAlgorithms []string `yaml:"signingalgorithms,flow"`
}

// registryAuth returns the section auth of the registry's configuration.
func registryAuth(c config.Config, jwks string) (section registrySection, err error) {
	if c.Auth.Keys == "" {
		return section, errors.New("auth.keys is not set: without keys there are no tokens to trust")
	}
	u, err := url.Parse(c.Registry.PublicURL)
	if err != nil || u.Host == "" {
		return section, fmt.Errorf("registry.public_url is %q: set it to the address at which clients reach the registry,"+
			" such as https://registry.example.org", c.Registry.PublicURL)
	}
	section.Auth.Token = registryToken{
		Realm: u.Scheme + "://" + u.Host + "/auth/token", Service: c.Auth.Service, Issuer: c.Auth.Issuer, JWKS: jwks,
		SigningAlgorithms: []string{"EdDSA"},
	}
	return section, nil
}
