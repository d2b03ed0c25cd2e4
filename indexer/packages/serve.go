package packages

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/cgi"
	"os/exec"
	"path/filepath"

	"github.com/portbook/portbook/indexer"
)

// maxGitRequest is the maximum size of what a client of git sends: 1 MiB, which names 20,000
// commits.
const maxGitRequest = 1 << 20

// errGitRequest is the error of a request that is larger.
var errGitRequest = indexer.Invalid("the request of git has more than %d bytes", maxGitRequest)

// ServeGit serves the index to clients of git. service is the part of the address below that of the
// index: /info/refs or /git-upload-pack.
func (s *Service) ServeGit(w http.ResponseWriter, r *http.Request, service string) error {
	if err := s.Sync(r.Context()); err != nil {
		return err
	}
	// Without the length CGI does not know where the body ends.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxGitRequest))
	if err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return errGitRequest
		}
		return indexer.Invalid("the request of git is incomplete")
	}
	git, err := exec.LookPath("git")
	if err != nil {
		return &indexer.Fault{Reason: "the index of packages needs git, which is not installed", Err: err}
	}
	ask := r.Clone(r.Context())
	ask.URL.Path, ask.URL.RawPath = "/index.git"+service, ""
	ask.Body, ask.ContentLength, ask.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	ask.Header.Del("Authorization")
	ask.Header.Del("Cookie")
	h := &cgi.Handler{
		Path: git, Args: []string{"http-backend"}, Dir: s.repo.dir, Root: "/",
		Env:    append(s.repo.served(), "GIT_PROJECT_ROOT="+filepath.Dir(s.repo.dir)),
		Logger: slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn), Stderr: io.Discard,
	}
	h.ServeHTTP(w, ask)
	return nil
}

// served returns the environment of git http-backend.
func (r *repository) served() []string {
	var all []string
	for _, v := range r.environment() {
		if len(v) < 8 || v[:8] != "GIT_DIR=" {
			all = append(all, v)
		}
	}
	return append(all, "GIT_HTTP_EXPORT_ALL=1")
}
