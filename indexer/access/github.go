package access

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/cache"
)

// A GitHubConfig says which GitHub and which of its OAuth applications to trust.
type GitHubConfig struct {
	// API is the address of GitHub's API: https://api.github.com, or that of an enterprise
	// server.
	API string
	// ClientID and ClientSecret are those of the application.
	ClientID, ClientSecret string
	// Open says that clients without a token may pull.
	Open bool
}

const (
	// githubTime limits one request to GitHub: 5 s.
	githubTime = 5 * time.Second
	// githubAge is how long the answer about a token is used: 30 s.
	githubAge = 30 * time.Second
	// githubBytes limits the memory of these answers: 4 MB, some 10,000 tokens.
	githubBytes = 4 << 20
	// githubAnswer limits an answer of GitHub: 64 KiB.
	githubAnswer = 64 << 10
)

// GitHub verifies tokens that GitHub gave to users of one OAuth application, ours: a token
// that a user gave to another application is not enough. It remembers the answers of GitHub,
// and is safe for concurrent use.
type GitHub struct {
	config GitHubConfig
	client *http.Client
	known  *cache.Versioned[githubUser] // by token; without a login: it is not of our application
}

// NewGitHub returns a verifier.
func NewGitHub(c GitHubConfig) *GitHub {
	return &GitHub{
		config: c, client: &http.Client{Timeout: githubTime},
		known: cache.New(githubBytes, githubAnswer, func(u githubUser) int { return len(u.Login) }),
	}
}

// Verify returns the subject of a token. If GitHub does not answer, it returns ErrDenied,
// because only GitHub can say that the token is right.
func (g *GitHub) Verify(ctx context.Context, c Credentials) (Subject, error) {
	age := indexer.Version{Number: time.Now().Unix() / int64(githubAge/time.Second)}
	user, err := g.known.Get(ctx, cache.Key{Version: age, Question: c.Secret}, func() (githubUser, error) {
		return g.ask(ctx, c.Secret)
	})
	if err != nil || user.Login == "" {
		return Subject{}, ErrDenied
	}
	return Subject{Name: AtGitHub + user.Login, Number: user.ID, Rules: everything}, nil
}

// AtGitHub begins the names of those who log in with a token of GitHub.
const AtGitHub = "github/"

// A githubUser is a user of GitHub. The login may change, and then belong to somebody else.
type githubUser struct {
	Login string
	ID    uint64
}

// ask asks GitHub whose token it is; without a login if it is not of our application.
func (g *GitHub) ask(ctx context.Context, token string) (user githubUser, err error) {
	body, err := json.Marshal(map[string]string{"access_token": token})
	if err != nil {
		return user, err
	}
	address := strings.TrimRight(g.config.API, "/") + "/applications/" + url.PathEscape(g.config.ClientID) + "/token"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return user, err
	}
	req.SetBasicAuth(g.config.ClientID, g.config.ClientSecret)
	req.Header.Set("Accept", "application/vnd.github+json")
	resp, err := g.client.Do(req)
	if err != nil {
		return user, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusUnprocessableEntity:
		return user, nil
	default:
		return user, errors.New("GitHub answered " + resp.Status)
	}
	var answer struct{ User githubUser }
	err = json.NewDecoder(io.LimitReader(resp.Body, githubAnswer)).Decode(&answer)
	if err == nil && answer.User.Login == "" {
		err = errors.New("the answer of GitHub names no user")
	}
	return answer.User, err
}

// Anonymous returns the subject of a client without a token, or ErrDenied.
func (g *GitHub) Anonymous(context.Context) (Subject, error) { return anonymous(g.config.Open) }

// Named returns the subject whose Actor is a name, as Tokens does.
func (g *GitHub) Named(ctx context.Context, actor string) (Subject, error) {
	return Tokens{Open: g.config.Open}.Named(ctx, actor)
}
