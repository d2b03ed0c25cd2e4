package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/portbook/portbook/indexer/config"
)

const (
	// copyStop is how long a copy that was interrupted may take to end: half a minute.
	copyStop = 30 * time.Second
	// maxCopyWorkers is what `registry copy` takes at most.
	maxCopyWorkers = 256
)

// bucketOptions are the flags of import bucket.
type bucketOptions struct {
	from, to string
	workers  int
	keepTags bool
}

func importBucketCommand() *cobra.Command {
	var o bucketOptions
	command := &cobra.Command{
		Use: "bucket", Short: "Copy the storage of a stock registry into ours",
		Long: `Copies the content of a stock registry from a bucket of R2, or from the storage of any
configuration of a registry, into the storage that ` + "`portbook registry-config`" + ` writes for our
registry, or that of --to. The program registry of Portbook does the work (registry copy): it
must be beside portbook, or in PATH.

What is there is not copied again, so a copy that was interrupted goes on when the command is
run again; nothing is deleted, and uploads are left out. A registry may serve the destination
meanwhile: it never shows what it does not have whole. Scan when it is done. The exit status is
1 if something was not copied.

R2 is read with R2_ACCOUNT_ID, R2_ACCESS_KEY_ID and R2_SECRET_ACCESS_KEY. R2_BUCKET is the
bucket, by default deploys-registry; R2_ENDPOINT is another address of R2, or of another S3;
WORKERS is the default of --workers.`,
		Example: `  R2_ACCOUNT_ID=... R2_ACCESS_KEY_ID=... R2_SECRET_ACCESS_KEY=... R2_BUCKET=images \
    portbook import bucket --config portbook.yaml
  portbook import bucket --from old.yml --to registry.yml`,
		Args: noArguments,
	}
	flags := command.Flags()
	flags.StringVar(&o.from, "from", "", "`file` with the configuration of the registry to copy from, instead of R2")
	flags.StringVar(&o.to, "to", "",
		"`file` with the configuration of our registry; default: what registry-config writes")
	flags.IntVar(&o.workers, "workers", 0, "how many objects are copied at the same time (default 8)")
	flags.BoolVar(&o.keepTags, "keep-tags", false, "leave tags as they are that show another manifest here")
	command.RunE = func(command *cobra.Command, _ []string) error { return importBucket(command, o) }
	return command
}

func importBucket(command *cobra.Command, o bucketOptions) (err error) {
	if o.workers, err = copyWorkers(o.workers, os.Getenv("WORKERS")); err != nil {
		return err
	}
	args, secrets, err := copyArguments(command, o)
	if err != nil {
		return err
	}
	program, err := copyProgram(command.Context())
	if err != nil {
		return err
	}
	run := exec.CommandContext(command.Context(), program, args...)
	run.Env = copyEnvironment(os.Environ(), o.to == "")
	run.Stdout, run.Stderr = command.OutOrStdout(), command.ErrOrStderr()
	return runCopy(run, secrets)
}

// copyArguments returns the arguments of a copy, and the configurations that stay off the disk:
// the copy gets them as its files 3 and 4.
func copyArguments(command *cobra.Command, o bucketOptions) (args []string, secrets []section, err error) {
	if o.from == "" {
		from, err := r2Source(os.Getenv)
		if err != nil {
			return nil, nil, err
		}
		secrets = append(secrets, from)
		o.from = fmt.Sprintf("/dev/fd/%d", 2+len(secrets))
	}
	if o.to == "" {
		to, err := ownStorage(command)
		if err != nil {
			return nil, nil, err
		}
		secrets = append(secrets, to)
		o.to = fmt.Sprintf("/dev/fd/%d", 2+len(secrets))
	}
	args = []string{"copy", "--workers", strconv.Itoa(o.workers)}
	if o.keepTags {
		args = append(args, "--keep-tags")
	}
	return append(args, "--from", o.from, o.to), secrets, nil
}

// copyWorkers returns how many objects are copied at the same time.
func copyWorkers(flag int, variable string) (int, error) {
	name, n := "--workers", flag
	if flag == 0 && variable != "" {
		name = "WORKERS"
		n, _ = strconv.Atoi(variable) // what is no number is 0, and refused
	} else if flag == 0 {
		n = 8
	}
	if n < 1 || n > maxCopyWorkers {
		return 0, fmt.Errorf("%s is not 1 to %d: it is how many objects are copied at the same time", name, maxCopyWorkers)
	}
	return n, nil
}

// account is the form of an account of Cloudflare.
var account = regexp.MustCompile(`^[A-Za-z0-9]{1,64}$`)

// r2Source returns the configuration of a registry whose storage is a bucket of R2.
func r2Source(variable func(string) string) (section, error) {
	id, key, secret := variable("R2_ACCOUNT_ID"), variable("R2_ACCESS_KEY_ID"), variable("R2_SECRET_ACCESS_KEY")
	endpoint := variable("R2_ENDPOINT")
	var missing []string
	for name, value := range map[string]string{
		"R2_ACCOUNT_ID": id + endpoint, "R2_ACCESS_KEY_ID": key, "R2_SECRET_ACCESS_KEY": secret,
	} {
		if value == "" {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return nil, fmt.Errorf("nothing says where to copy from: set %s for a bucket of R2, or name the configuration of"+
			" a registry with --from FILE", strings.Join(missing, ", "))
	}
	if endpoint == "" {
		if !account.MatchString(id) {
			return nil, errors.New("R2_ACCOUNT_ID is not the id of an account: it has letters and digits alone")
		}
		endpoint = "https://" + id + ".r2.cloudflarestorage.com"
	}
	if u, err := url.Parse(endpoint); err != nil || u.Host == "" || u.User != nil ||
		u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("R2_ENDPOINT is not a URL: write one such as https://ID.eu.r2.cloudflarestorage.com")
	}
	return section{"version": 0.1, "storage": section{"s3": section{
		"bucket": cmp.Or(variable("R2_BUCKET"), "deploys-registry"), "region": "auto", "regionendpoint": endpoint,
		"accesskey": key, "secretkey": secret, "forcepathstyle": true,
	}}}, nil
}

// ownStorage returns the configuration of our registry, without what a copy does not need.
func ownStorage(command *cobra.Command) (section, error) {
	from := source(command)
	from.ForRegistry = true
	c, err := config.Load(from)
	if err != nil {
		return nil, fmt.Errorf("configuration:\n%w", err)
	}
	return section{"version": 0.1, "storage": section{string(c.Storage.Type()): registryDriver(c.Storage)}}, nil
}

// copyProgram returns the path of the program registry of Portbook.
func copyProgram(ctx context.Context) (string, error) {
	program := ""
	if self, err := os.Executable(); err == nil {
		program, _ = exec.LookPath(filepath.Join(filepath.Dir(self), "registry"))
	}
	if program == "" {
		program, _ = exec.LookPath("registry")
	}
	const get = "build it in a clone with `go build -C registry -o registry .`, or take /bin/registry of the image of" +
		" deploy/registry.Dockerfile, and put it beside portbook or in PATH"
	if program == "" {
		return "", fmt.Errorf("the program registry of Portbook, which copies, is not beside portbook or in PATH: %s", get)
	}
	// Upstream's binary answers an unknown command with status 0.
	help, err := exec.CommandContext(ctx, program, "copy", "--help").CombinedOutput()
	if err != nil || !bytes.Contains(help, []byte("--from")) {
		return "", fmt.Errorf("%s has no command copy, so it is not the registry of Portbook: %s", program, get)
	}
	return program, nil
}

// copyEnvironment returns the environment of a copy: without what it need not know, and without
// settings of the registry if they are to be ours.
func copyEnvironment(environ []string, ours bool) []string {
	return slices.DeleteFunc(environ, func(v string) bool {
		return strings.HasPrefix(v, "R2_") || ours && strings.HasPrefix(v, "REGISTRY_")
	})
}

// runCopy runs a copy. It reads configurations from pipes, so that no secret is in a file or among
// arguments.
func runCopy(run *exec.Cmd, secrets []section) error {
	for _, s := range secrets {
		read, err := piped(s)
		if err != nil {
			return err
		}
		defer read.Close()
		run.ExtraFiles = append(run.ExtraFiles, read)
	}
	run.Cancel = func() error { return run.Process.Signal(syscall.SIGTERM) }
	run.WaitDelay = copyStop
	err := run.Run()
	if failed := new(exec.ExitError); errors.As(err, &failed) {
		return errors.New("not everything was copied: the lines above say why; run the command again to go on")
	}
	return err
}

// piped returns a pipe from which a configuration can be read. It is shorter than what a pipe
// takes at once.
func piped(s section) (*os.File, error) {
	text, err := yaml.Marshal(s)
	if err != nil {
		return nil, err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	_, err = write.Write(text)
	if err = errors.Join(err, write.Close()); err != nil {
		read.Close()
		return nil, err
	}
	return read, nil
}
