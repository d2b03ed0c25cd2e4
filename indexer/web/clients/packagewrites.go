package clients

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/pesde"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/login"
)

// Packages publishes, yanks and deprecates packages, and serves their index: see packages.Service.
type Packages interface {
	MaxArchive(ctx context.Context) (int64, error)
	Publish(ctx context.Context, u indexer.PackageUser, archive []byte) (text string, err error)
	Yank(ctx context.Context, u indexer.PackageUser, n pesde.Name, v pesde.Version, target pesde.Target, yanked bool) (
		text string, err error)
	Deprecate(ctx context.Context, u indexer.PackageUser, n pesde.Name, reason string) (text string, err error)
	ServeGit(w http.ResponseWriter, r *http.Request, service string) error
}

// A PackageConfig configures the registry of packages.
type PackageConfig struct {
	Packages Packages // nil: there is none
	Prefix   string   // begins the names of repositories of packages
	Writes   bool     // a reader only serves
	// UseRate counts a publish of a user, as login.Config.UseRate does.
	UseRate func(ctx context.Context, key string, r access.Rate) (full time.Duration, allowed bool, err error)
	// Blob and Manifest read from the registry; nil on a reader without the registry's address.
	Blob     func(ctx context.Context, repository string, d string, limit int64) ([]byte, error)
	Manifest func(ctx context.Context, repository string, d string) ([]byte, error)
}

const (
	// maxPublishing is how many archives are in memory at the same time: 4, 2 of one client.
	maxPublishing, maxPublishingEach = 4, 2
	// uploadTime limits the upload of an archive: 60 s.
	uploadTime = 60 * time.Second
	// maxGits is how many copies of the index are served at the same time: 8, 4 to one client. Each
	// is a process of some 10 MB.
	maxGits, maxGitsEach = 8, 4
	// gitTime limits how long one may take: 2 minutes, for a slow line.
	gitTime = 2 * time.Minute
)

// Publish serves POST /v0/packages and /v1/packages: the body is an archive.
func (s *Clients) Publish(w http.ResponseWriter, r *http.Request) error {
	user, ctx, err := s.packageUser(r)
	if err != nil {
		return err
	}
	full, allowed, err := s.config.Package.UseRate(ctx, "publish "+rateKey(ctx), access.Writes)
	if err == nil {
		err = login.WriteCounted(w, full, allowed)
	}
	if err != nil {
		return err
	}
	most, err := s.config.Package.Packages.MaxArchive(ctx)
	if err != nil {
		return err
	}
	if r.ContentLength > most {
		return errArchiveTooLarge
	}
	done, err := s.publishing.Take(ctx, "publish", answer.ClientOf(r))
	if err != nil {
		return err
	}
	defer done()
	answer.SetDeadline(w, 2*uploadTime)
	archive, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return errArchiveTooLarge
	case err != nil:
		return answer.Refuse(http.StatusBadRequest, "the archive is incomplete")
	}
	text, err := s.config.Package.Packages.Publish(ctx, user, archive)
	return s.packageDone(w, text, err)
}

var errArchiveTooLarge = answer.Refuse(http.StatusRequestEntityTooLarge, "%s", pesde.ErrTooLarge)

// rateKey returns the key of a user's publishes.
func rateKey(ctx context.Context) string {
	if name := access.ActorOf(ctx).Name; name != "" {
		return name
	}
	return "0" // all who need no login
}

// packageUser returns who sends a request that changes packages, and the context for the change.
func (s *Clients) packageUser(r *http.Request) (u indexer.PackageUser, ctx context.Context, err error) {
	if !s.config.Package.Writes {
		return u, nil, login.ErrOnlyReads
	}
	l := s.config.Login
	if l == nil { // nobody logs in, and everybody may push
		u.May = func(context.Context, string) error { return nil }
		return u, login.As(r, access.Subject{}), nil
	}
	subject, err := l.Known(r)
	if err != nil {
		return u, nil, err
	}
	// A token for the registry has the name, which may belong to somebody else at GitHub tomorrow.
	if subject.Number == 0 && strings.HasPrefix(subject.Name, access.AtGitHub) {
		return u, nil, indexer.Forbidden("this token does not say who you are at GitHub: use the one that GitHub gave you")
	}
	u.May = func(_ context.Context, repository string) error { return s.mayPush(r, subject, repository) }
	u.Number, u.Account = subject.Number, l.Accounts != nil
	return u, login.As(r, subject), nil
}

// mayPush returns an ErrForbidden unless who sends a request may push to a repository.
func (s *Clients) mayPush(r *http.Request, who access.Subject, repository string) error {
	may, err := s.config.Login.MayPush(r, who, repository)
	if err == nil && !may {
		err = indexer.Forbidden("you may not push to %s", repository)
	}
	return err
}

// packageDone answers a change as clients of pesde know it.
func (s *Clients) packageDone(w http.ResponseWriter, text string, err error) error {
	var refused *pesde.Refused
	switch {
	case errors.As(err, &refused):
		answer.WriteErrorJSON(w, http.StatusBadRequest, refused.Text)
		return nil
	case errors.Is(err, pesde.ErrTooLarge):
		return errArchiveTooLarge
	case errors.Is(err, indexer.ErrNotFound):
		return errNoPackage
	case err != nil:
		return err
	}
	w.Header().Set("Content-Type", plainText)
	w.Header().Set("Cache-Control", "no-store")
	return answer.Write(w, []byte(text))
}

// YankPackage serves PUT and DELETE /v1/packages/{name}/{version}/{target}/yank.
func (s *Clients) YankPackage(w http.ResponseWriter, r *http.Request) error {
	user, ctx, err := s.packageUser(r)
	if err != nil {
		return err
	}
	name, version, err := packageAt(r)
	if err != nil {
		return err
	}
	target := pesde.Target("all")
	if text := r.PathValue("target"); !strings.EqualFold(text, string(target)) {
		if target, err = pesde.ParseTarget(text); err != nil {
			return notThere(err)
		}
	}
	text, err := s.config.Package.Packages.Yank(ctx, user, name, version, target, r.Method == http.MethodPut)
	return s.packageDone(w, text, err)
}

// maxReason is the maximum length of the reason of a deprecation, in bytes: 4 KiB. A client shows it
// whenever the package is installed.
const maxReason = 4 << 10

// DeprecatePackage serves PUT and DELETE /v1/packages/{name}/deprecate: the body is the reason.
func (s *Clients) DeprecatePackage(w http.ResponseWriter, r *http.Request) error {
	user, ctx, err := s.packageUser(r)
	if err != nil {
		return err
	}
	name, err := pesde.ParseName(r.PathValue("name"))
	if err != nil {
		return notThere(err)
	}
	reason := ""
	if r.Method == http.MethodPut {
		if reason, err = readReason(w, r); err != nil {
			answer.WriteErrorJSON(w, http.StatusBadRequest, err.Error())
			return nil
		}
	}
	text, err := s.config.Package.Packages.Deprecate(ctx, user, name, reason)
	return s.packageDone(w, text, err)
}

func readReason(w http.ResponseWriter, r *http.Request) (string, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxReason))
	reason := strings.TrimSpace(strings.ToValidUTF8(string(body), "\uFFFD"))
	switch {
	case err != nil:
		return "", errors.New("the reason has more than 4096 bytes, or is incomplete")
	case reason == "":
		return "", errors.New("deprecating must have a non-empty reason")
	case strings.ContainsFunc(reason, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }):
		return "", errors.New("the reason has control characters") // clients print it
	}
	return reason, nil
}

// packageAt returns the package and the version that a request names.
func packageAt(r *http.Request) (n pesde.Name, v pesde.Version, err error) {
	if n, err = pesde.ParseName(r.PathValue("name")); err == nil {
		v, err = pesde.ParseVersion(r.PathValue("version"))
	}
	if err != nil {
		err = notThere(err)
	}
	return n, v, err
}

// notThere returns the answer to a path with a bad part.
func notThere(err error) error { return answer.Refuse(http.StatusNotFound, "%s", err) }

// PackageIndex serves the index of packages to git: GET /index/info/refs and POST
// /index/git-upload-pack. It has all packages, so it is only for those who may pull all.
func (s *Clients) PackageIndex(w http.ResponseWriter, r *http.Request) error {
	if err := s.mayPullPackages(r); err != nil {
		return err
	}
	done, err := s.gits.Take(r.Context(), "index", answer.ClientOf(r))
	if err != nil {
		return err
	}
	defer done()
	service := strings.TrimPrefix(r.URL.Path, "/index")
	if service == "/info/refs" && r.URL.Query().Get("service") != "git-upload-pack" {
		return answer.Refuse(http.StatusForbidden, "the index can only be read: packages are published by POST /v1/packages")
	}
	answer.SetDeadline(w, gitTime)
	return s.config.Package.Packages.ServeGit(w, r, service)
}

// mayPullPackages returns a refusal unless who sends a request may pull all packages.
func (s *Clients) mayPullPackages(r *http.Request) error {
	l := s.config.Login
	if l == nil {
		return nil
	}
	if _, err := l.Asker(r); err != nil {
		return err
	}
	subject, err := l.Subject(r)
	if err == nil {
		subject, err = subject.AboutAll(r.Context())
	}
	if err != nil {
		return err
	}
	if subject.PullsAll(s.packagePattern()) {
		return nil
	}
	if subject.Name == "" { // git asks for a login then
		_, err := l.Known(r)
		return err
	}
	return indexer.Forbidden("the index has all packages, and you may not pull all of them: that takes a grant on %s",
		s.packagePattern())
}

// packagePattern returns the pattern of the repositories of all packages.
func (s *Clients) packagePattern() access.Pattern {
	p, err := access.ParsePattern(s.config.Package.Prefix + "*")
	if err != nil {
		return access.Every
	}
	return p
}
