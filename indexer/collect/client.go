package collect

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
)

const (
	// maxLine is how long a line of the sweep may be: 64 KiB. The longest has a path of the
	// storage and the reason why it cannot be read.
	maxLine = 64 << 10
	// silence is how long the sweep may send nothing before a call is given up: 10 minutes. It
	// reports progress every 2 s, except while it sorts what it has seen, or S3 copies a large
	// blob.
	silence = 10 * time.Minute
	// errorBody is how much of the answer to a refused call is read: 300 bytes.
	errorBody = 300
)

// A Client calls the sweep. It is safe for concurrent use.
type Client struct {
	base, token string
	http        *http.Client
}

// NewClient returns a client of the sweep at a URL. It follows no redirects.
func NewClient(base, token string) (*Client, error) {
	u, err := url.Parse(strings.TrimRight(base, "/"))
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("URL of the sweep %q: %w", base, indexer.ErrInvalid)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil // the token is for the sweep alone
	return &Client{base: u.String(), token: token, http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// These are the lines of the sweep: see the package sweep of the registry module. We read what
// we need.
type (
	line struct {
		Blob     *blobLine
		Manifest *struct{ Repository, Digest string }
		Problem  *struct{ Path, Reason string }
		Done     *doneLine
		Summary  *summaryLine
		End      bool
		Error    string
	}
	blobLine struct {
		Digest               string
		Size                 int64
		Stored, Linked, Used bool
		Trashed              time.Time
	}
	doneLine struct {
		Digest, Outcome, Reason string
		Size                    int64
	}
	summaryLine struct {
		Begin                                      time.Time
		Seconds                                    float64
		Blobs, Bytes, Links, Manifests, Unreadable int64
		AbandonedUploads                           int64 `json:"abandoned_uploads"`
		AbandonedBytes                             int64 `json:"abandoned_bytes"`
		ActiveUploads                              int64 `json:"active_uploads"`
		Blind                                      string
	}
)

// An order names blobs for the sweep.
type order struct {
	Repository string          `json:"repository,omitempty"`
	Digests    []digest.Digest `json:"digests"`
	Seconds    float64         `json:"seconds,omitempty"`
	Since      time.Time       `json:"since,omitzero"`
}

// errCut is the error of an answer that ends before its last line.
var errCut = errors.New("the answer ended before its last line")

// call sends a request and passes each line of the answer to f, until the last.
func (c *Client) call(ctx context.Context, path string, body any, f func(line) error) error {
	err := c.stream(ctx, path, body, f)
	switch {
	case err == nil || ctx.Err() != nil:
		return err
	case errors.Is(err, errOurs):
		return err
	}
	reason := "the sweep of the registry did not do what it was asked for"
	return &indexer.Fault{Reason: reason, Err: fmt.Errorf("sweep: %s: %w", path, err)}
}

// errOurs marks errors of f, which are not those of the sweep.
var errOurs = errors.New("result of the sweep")

func (c *Client) stream(ctx context.Context, path string, body any, f func(line) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	alive := time.AfterFunc(silence, cancel)
	defer alive.Stop()
	resp, err := c.post(ctx, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		alive.Reset(silence)
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return fmt.Errorf("line of the answer: %w", err)
		}
		if l.Error != "" {
			return fmt.Errorf("it says: %.300s", l.Error)
		}
		if err := f(l); err != nil {
			return fmt.Errorf("%w: %w", errOurs, err)
		}
		if l.End || l.Summary != nil {
			return nil
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return errCut
}

func (c *Client) post(ctx context.Context, path string, body any) (*http.Response, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+c.token)
	r.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, errorBody))
		return nil, fmt.Errorf("status %d: %s", resp.StatusCode, text)
	}
	return resp, nil
}

// Relink links blobs in a repository again whose links were removed in the moment in which a
// manifest that needs them was pushed. It returns an error unless all are linked.
func (c *Client) Relink(ctx context.Context, repository string, digests ...digest.Digest) error {
	linked := 0
	err := c.call(ctx, "/relink", order{Repository: repository, Digests: digests}, func(l line) error {
		if l.Done != nil && l.Done.Outcome == "restored" {
			linked++
		}
		return nil
	})
	if err == nil && linked < len(digests) {
		err = fmt.Errorf("sweep: only %d of %d blobs of %q were linked again", linked, len(digests), repository)
	}
	return err
}
