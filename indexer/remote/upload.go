package remote

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
)

// Upload stores a blob, unless the repository has it. The blob is sent in one request, so it must
// be small: uploads of some MB end within requestTimeout.
func (c *Client) Upload(ctx context.Context, repository string, data []byte) (digest.Digest, error) {
	d := digest.FromBytes(data)
	if err := c.HasBlob(ctx, repository, d); !errors.Is(err, indexer.ErrNotFound) {
		return d, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	begun, err := c.do(ctx, http.MethodPost, repository+"/blobs/uploads/", nil, http.StatusAccepted)
	if err != nil {
		return d, err
	}
	discard(begun)
	path, err := c.uploadPath(begun, d)
	if err != nil {
		return d, err
	}
	// Another content type than this one is read as a form, and the body is lost.
	header := http.Header{"Content-Type": {"application/octet-stream"}}
	done, err := c.doWith(ctx, http.MethodPut, path, header, data, http.StatusCreated)
	if err != nil {
		return d, err
	}
	discard(done)
	return d, nil
}

// uploadPath returns the path below /v2/ at which an upload that has begun ends with all its bytes.
func (c *Client) uploadPath(begun *http.Response, d digest.Digest) (string, error) {
	upload, err := begun.Location()
	if err == nil && upload.Host == c.base.Host {
		query := upload.Query()
		query.Set("digest", d.String())
		upload.RawQuery = query.Encode()
		if path, ok := strings.CutPrefix(upload.RequestURI(), c.base.Path+"/v2/"); ok {
			return path, nil
		}
	}
	return "", invalid("the registry did not say where to upload a blob")
}
