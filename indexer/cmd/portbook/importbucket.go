package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

func importBucketCommand() *cobra.Command {
	var from, to string
	command := &cobra.Command{
		Use: "bucket --to CONFIG", Short: "Copy the bucket of another registry into the storage of ours",
		Long: `Copies what a bucket has into the storage that a configuration of the registry names, such as
one that portbook registry-config has written: 8 objects at a time, blobs before what names
them, without unfinished uploads. What is there is not copied again, so a copy that was
interrupted goes on when it is run again; nothing is deleted. The program registry does the
work, as "registry copy"; it is searched beside this program, and then in PATH.

The bucket is that of a configuration of the registry (--from), or one of Cloudflare R2: R2_BUCKET
(default: deploys-registry) of the account R2_ACCOUNT_ID, with R2_ACCESS_KEY_ID and
R2_SECRET_ACCESS_KEY. R2_ENDPOINT is another address than that of the account. WORKERS is how
many objects are copied at the same time (default: 8).`,
		Example: "  portbook import bucket --from old.yml --to registry.yml",
		Args:    noArguments,
	}
	command.Flags().StringVar(&from, "from", "", "the `configuration` of the registry to copy from, instead of R2")
	command.Flags().StringVar(&to, "to", "", "the `configuration` of the registry to copy into")
	command.RunE = func(command *cobra.Command, _ []string) error {
		if to == "" {
			return errors.New("--to is required: name the configuration of the registry to copy into")
		}
		program, err := registryProgram()
		if err != nil {
			return err
		}
		if from == "" {
			remove, err := r2Config(&from)
			if err != nil {
				return err
			}
			defer remove()
		}
		workers := cmp.Or(os.Getenv("WORKERS"), "8")
		copying := exec.CommandContext(command.Context(), program, "copy", "--workers", workers, "--from", from, to)
		copying.Cancel = func() error { return copying.Process.Signal(os.Interrupt) }
		copying.Stdout, copying.Stderr = command.OutOrStdout(), command.ErrOrStderr()
		var failed *exec.ExitError
		if err := copying.Run(); errors.As(err, &failed) {
			return errors.New("the bucket was not copied: see above")
		} else if err != nil {
			return err
		}
		return nil
	}
	return command
}

// registryProgram returns the registry's program that can copy.
func registryProgram() (string, error) {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "registry")
		if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return beside, nil
		}
	}
	program, err := exec.LookPath("registry")
	if err != nil {
		return "", errors.New("the program registry is neither beside this one nor in PATH: build it by" +
			" `go build -o registry ./registry`")
	}
	return program, nil
}

// r2Config writes the configuration of a bucket of Cloudflare R2 into a file that only this user can
// read, and returns what removes it.
func r2Config(name *string) (remove func(), err error) {
	account, key, secret := os.Getenv("R2_ACCOUNT_ID"), os.Getenv("R2_ACCESS_KEY_ID"), os.Getenv("R2_SECRET_ACCESS_KEY")
	endpoint := os.Getenv("R2_ENDPOINT")
	if account == "" && endpoint == "" || key == "" || secret == "" {
		return nil, errors.New("set R2_ACCOUNT_ID, R2_ACCESS_KEY_ID and R2_SECRET_ACCESS_KEY in the environment, or" +
			" name the configuration of another bucket by --from")
	}
	text, err := yaml.Marshal(map[string]any{"version": "0.1", "storage": map[string]any{"s3": map[string]any{
		"region": "auto", "bucket": cmp.Or(os.Getenv("R2_BUCKET"), "deploys-registry"), "accesskey": key, "secretkey": secret,
		"regionendpoint": cmp.Or(endpoint, "https://"+account+".r2.cloudflarestorage.com"), "forcepathstyle": true,
	}}, "http": map[string]any{"addr": "127.0.0.1:0"}})
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "portbook-import-") // with mode 0700
	if err != nil {
		return nil, err
	}
	remove = func() { _ = os.RemoveAll(dir) }
	*name = filepath.Join(dir, "r2.yml")
	if err := os.WriteFile(*name, text, 0o600); err != nil {
		remove()
		return nil, fmt.Errorf("write the configuration of the bucket: %w", err)
	}
	return remove, nil
}
