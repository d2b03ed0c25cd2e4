package packages

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
)

const (
	// branch is where the index is. Clients remember the branch with which they cloned it.
	branch = "refs/heads/main"
	// next is where a commit is before it is stored. It is not served.
	next = "refs/next/main"
	// gitTime limits one run of git: 30 s. The public index of 3,159 versions is cloned in less
	// than 2 s.
	gitTime = 30 * time.Second
	// maxGitOutput limits what git may print: 256 MiB, a hundred times the public index.
	maxGitOutput = 256 << 20
	// maxGitError is how much of an error of git is logged, in bytes.
	maxGitError = 2000
)

// A repository is a bare git repository. The caller must not use it from two goroutines at once,
// except to serve it.
type repository struct {
	dir string
	who committer
}

// A committer is whom commits name.
type committer struct{ Name, Email string }

// A gitError is the error of a run of git.
type gitError struct {
	what   string
	output string
	err    error
}

func (e *gitError) Error() string { return fmt.Sprintf("git %s: %s: %s", e.what, e.err, e.output) }
func (e *gitError) Unwrap() error { return e.err }

// create makes an empty repository in place of what is there: a process that was killed may have
// left locks.
func (r *repository) create(ctx context.Context) error {
	if err := errors.Join(os.RemoveAll(r.dir), os.MkdirAll(r.dir, 0o700)); err != nil {
		return err
	}
	_, err := r.git(ctx, nil, nil, "init", "--quiet", "--bare", "--initial-branch", "main", "--template=", ".")
	if err == nil {
		_, err = r.git(ctx, nil, nil, "config", "transfer.hideRefs", "refs/next")
	}
	return err
}

// environment returns the environment of git: nothing of the user's configuration applies, and it
// asks nobody.
func (r *repository) environment() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + r.dir, "LC_ALL=C", "GIT_DIR=" + r.dir, "GIT_CONFIG_NOSYSTEM=1",
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0", "GIT_ALLOW_PROTOCOL=file:http:https", "GIT_OPTIONAL_LOCKS=0",
		"SSL_CERT_FILE=" + os.Getenv("SSL_CERT_FILE"), "SSL_CERT_DIR=" + os.Getenv("SSL_CERT_DIR"),
		"HTTPS_PROXY=" + os.Getenv("HTTPS_PROXY"), "NO_PROXY=" + os.Getenv("NO_PROXY"),
	}
}

// git runs git and returns what it prints.
func (r *repository) git(ctx context.Context, in io.Reader, environment []string, args ...string) ([]byte, error) {
	// A client that leaves must not kill git, which would leave its locks.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), gitTime)
	defer cancel()
	command := exec.CommandContext(ctx, "git", args...)
	command.Dir, command.Stdin = r.dir, in
	command.Env = append(r.environment(), environment...)
	command.WaitDelay = time.Second
	out, said := &limited{left: maxGitOutput}, &limited{left: maxGitError}
	command.Stdout, command.Stderr = out, said
	err := command.Run()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, errors.New("git is not installed: packages need it")
	case ctx.Err() != nil:
		err = ctx.Err()
	case err == nil && out.left < 0:
		err = errors.New("it printed too much")
	}
	if err != nil {
		return nil, &gitError{args[0], strings.TrimSpace(said.String()), err}
	}
	return out.Bytes(), nil
}

// limited keeps the first bytes that are written to it.
type limited struct {
	bytes.Buffer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left >= 0 {
		l.Buffer.Write(p[:min(len(p), l.left)])
		l.left -= len(p)
	}
	return len(p), nil
}

// head returns the commit of a reference; "" if there is none.
func (r *repository) head(ctx context.Context, reference string) (string, error) {
	out, err := r.git(ctx, nil, nil, "for-each-ref", "--format=%(objectname)", reference)
	return strings.TrimSpace(string(out)), err
}

// commit makes a commit at next that builds on base, "" for none, and changes files: those without
// content are deleted. It returns the commit.
func (r *repository) commit(
	ctx context.Context, base, message string, at time.Time, files map[string][]byte,
) (string, error) {
	var in bytes.Buffer
	fmt.Fprintf(&in, "reset %s\n", next)
	if base != "" {
		fmt.Fprintf(&in, "from %s\n\n", base)
	}
	fmt.Fprintf(&in, "commit %s\ncommitter %s <%s> %d +0000\ndata %d\n%s\n", next, r.who.Name, r.who.Email, at.Unix(),
		len(message), message)
	for _, path := range slices.Sorted(maps.Keys(files)) {
		if files[path] == nil {
			fmt.Fprintf(&in, "D %s\n", path)
			continue
		}
		fmt.Fprintf(&in, "M 100644 inline %s\ndata %d\n%s\n", path, len(files[path]), files[path])
	}
	if _, err := r.git(ctx, &in, nil, "fast-import", "--quiet", "--force"); err != nil {
		return "", err
	}
	return r.head(ctx, next)
}

// file returns a file of a commit.
func (r *repository) file(ctx context.Context, commit, path string) ([]byte, error) {
	return r.git(ctx, nil, nil, "cat-file", "blob", commit+":"+path)
}

// changed returns the files that differ between two commits, with what they are in the second; nil:
// they are gone. If base is "", it returns all files.
func (r *repository) changed(ctx context.Context, base, commit string) (map[string][]byte, error) {
	list := []string{"ls-tree", "-r", "-z", "--name-only", commit}
	if base != "" {
		list = []string{"diff-tree", "-r", "-z", "--no-renames", "--name-only", base, commit}
	}
	out, err := r.git(ctx, nil, nil, list...)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	paths := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	var in bytes.Buffer
	for _, path := range paths {
		if strings.Contains(path, "\n") {
			return nil, fmt.Errorf("the index has a file with a line break in its name: %w", indexer.ErrInvalid)
		}
		fmt.Fprintf(&in, "%s:%s\n", commit, path)
	}
	if len(out) == 0 {
		return files, nil
	}
	out, err = r.git(ctx, &in, nil, "cat-file", "--batch")
	if err != nil {
		return nil, err
	}
	return files, splitBatch(out, paths, files)
}

// splitBatch splits what git cat-file --batch prints for paths.
func splitBatch(out []byte, paths []string, files map[string][]byte) error {
	for _, path := range paths {
		header, rest, ok := bytes.Cut(out, []byte("\n"))
		if !ok {
			return errors.New("git cat-file printed too little")
		}
		if bytes.HasSuffix(header, []byte(" missing")) {
			files[path], out = nil, rest
			continue
		}
		var name, kind string
		var size int
		if _, err := fmt.Sscan(string(header), &name, &kind, &size); err != nil || size+1 > len(rest) {
			return fmt.Errorf("git cat-file printed %q", header)
		}
		files[path], out = append([]byte{}, rest[:size]...), rest[size+1:]
	}
	return nil
}

// bundle returns what a commit has more than base, or all if base is "".
func (r *repository) bundle(ctx context.Context, base, commit string) (b indexer.PackageBundle, err error) {
	if _, err := r.git(ctx, nil, nil, "update-ref", next, commit); err != nil {
		return b, err
	}
	args := []string{"bundle", "create", "--quiet", "-", next}
	if base != "" {
		args = append(args, "^"+base)
	}
	if b.Data, err = r.git(ctx, nil, nil, args...); err != nil {
		return b, err
	}
	b.Head, err = hex.DecodeString(commit)
	if base != "" && err == nil {
		b.Base, err = hex.DecodeString(base)
	}
	return b, err
}

// apply takes over a bundle, so that its last commit is served.
func (r *repository) apply(ctx context.Context, data []byte) error {
	file := filepath.Join(r.dir, "bundle")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return err
	}
	_, err := r.git(ctx, nil, nil, "fetch", "--quiet", "--no-write-fetch-head", "--no-auto-gc", file, "+"+next+":"+branch)
	return err
}

// tidy packs the objects if there are thousands. If it fails, it is done another time.
func (r *repository) tidy(ctx context.Context) {
	_, _ = r.git(ctx, nil, nil, "-c", "gc.autoDetach=false", "gc", "--auto", "--quiet")
}

// serve makes a commit what clients read.
func (r *repository) serve(ctx context.Context, commit string) error {
	_, err := r.git(ctx, nil, nil, "update-ref", branch, commit)
	return err
}

// isAncestor reports whether a commit is another one, or comes before it.
func (r *repository) isAncestor(ctx context.Context, commit, of string) (bool, error) {
	_, err := r.git(ctx, nil, nil, "merge-base", "--is-ancestor", commit, of)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return false, nil
	}
	return err == nil, err
}

// An upstream is a repository elsewhere in which the index is published.
type upstream struct {
	URL                string
	Username, Password string
}

// environment returns what git needs to log in there. Nobody but our own user can read it.
func (u upstream) environment() []string {
	if u.Username == "" && u.Password == "" {
		return nil
	}
	login := base64.StdEncoding.EncodeToString([]byte(u.Username + ":" + u.Password))
	return []string{
		"GIT_CONFIG_COUNT=2",
		"GIT_CONFIG_KEY_0=http." + u.URL + ".extraHeader", "GIT_CONFIG_VALUE_0=Authorization: Basic " + login,
		"GIT_CONFIG_KEY_1=http.followRedirects", "GIT_CONFIG_VALUE_1=false", // the login is for this server only
	}
}

// branchOf returns the branch that is cloned from the upstream; "" if it has no commits.
func (r *repository) branchOf(ctx context.Context, u upstream) (string, error) {
	out, err := r.git(ctx, nil, u.environment(), "ls-remote", "--symref", u.URL, "HEAD")
	if err != nil {
		return "", err
	}
	rest, ok := strings.CutPrefix(string(out), "ref: ")
	name, _, _ := strings.Cut(rest, "\t")
	if !ok || !strings.HasPrefix(name, "refs/heads/") {
		return "", nil
	}
	return name, nil
}

// fetch fetches a branch of the upstream and returns its commit.
func (r *repository) fetch(ctx context.Context, u upstream, from string) (string, error) {
	const fetched = "refs/next/upstream"
	_, err := r.git(ctx, nil, u.environment(), "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-gc",
		u.URL, "+"+from+":"+fetched)
	if err != nil {
		return "", err
	}
	return r.head(ctx, fetched)
}

// push makes a commit the branch of the upstream, unless that has a commit that is not before it.
func (r *repository) push(ctx context.Context, u upstream, commit, to string) error {
	_, err := r.git(ctx, nil, u.environment(), "push", "--quiet", u.URL, commit+":"+to)
	return err
}
