package remote

import (
	"context"
	"net/http"
	"net/url"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
)

// DeleteTag deletes a tag; the manifest that it shows stays. It returns ErrNotFound if there
// is no such tag.
//
// The registry deletes the tag whatever it shows: a caller who wants to delete it only if it
// shows some digest asks Shows just before.
func (c *Client) DeleteTag(ctx context.Context, repository, tag string) error {
	return c.delete(ctx, repository+"/manifests/"+tag)
}

// DeleteManifest deletes a manifest. It returns ErrNotFound if there is none.
//
// The stock registry deletes the manifest first, then reads every tag of the repository, and
// deletes those that showed the manifest without reading them again: a tag that moves at that
// moment is lost (distribution v3.1.2, registry/handlers/manifests.go, DeleteManifest).
func (c *Client) DeleteManifest(ctx context.Context, repository string, d digest.Digest) error {
	return c.delete(ctx, repository+"/manifests/"+d.String())
}

// DeleteBlob deletes the link of a repository to a blob: the bytes stay, but the repository
// serves them no longer. It returns ErrNotFound if there is no such link.
func (c *Client) DeleteBlob(ctx context.Context, repository string, d digest.Digest) error {
	return c.delete(ctx, repository+"/blobs/"+d.String())
}

func (c *Client) delete(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := c.do(ctx, http.MethodDelete, path, nil, http.StatusAccepted, http.StatusOK, http.StatusNoContent)
	if err != nil {
		return err
	}
	discard(resp)
	return nil
}

// Put stores a manifest under a tag or its digest. If the registry refuses it, because a blob
// or a manifest that it names is missing, the error is a *StatusError with the status 400. It
// returns ErrInvalid if the registry says that it has stored other bytes.
func (c *Client) Put(
	ctx context.Context, repository string, reference indexer.TagOrDigest, mediaType string, body []byte,
) (digest.Digest, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	header := http.Header{}
	if mediaType != "" {
		header.Set("Content-Type", mediaType)
	}
	path := repository + "/manifests/" + string(reference)
	resp, err := c.doWith(ctx, http.MethodPut, path, header, body, http.StatusCreated, http.StatusOK)
	if err != nil {
		return "", err
	}
	defer discard(resp)
	d, err := digest.Parse(resp.Header.Get("Docker-Content-Digest"))
	if err != nil || d != d.Algorithm().FromBytes(body) {
		return d, invalid("the registry did not say that it has stored the bytes of %s:%s", repository, reference)
	}
	return d, nil
}

// HasBlob returns nil if a repository has a blob, and ErrNotFound if it has not.
func (c *Client) HasBlob(ctx context.Context, repository string, d digest.Digest) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := c.do(ctx, http.MethodHead, repository+"/blobs/"+d.String(), nil, http.StatusOK)
	if err != nil {
		return err
	}
	discard(resp)
	return nil
}

// Mount gives a repository a blob of another one. It returns ErrNotFound if that has it not.
func (c *Client) Mount(ctx context.Context, repository, from string, d digest.Digest) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	query := url.Values{"mount": {d.String()}, "from": {from}}
	path := repository + "/blobs/uploads/?" + query.Encode()
	resp, err := c.do(ctx, http.MethodPost, path, nil, http.StatusCreated, http.StatusAccepted)
	if err != nil {
		return err
	}
	discard(resp)
	if resp.StatusCode == http.StatusAccepted { // the registry waits for an upload instead
		if upload, err := resp.Location(); err == nil {
			c.cancelUpload(ctx, upload)
		}
		return indexer.ErrNotFound
	}
	return nil
}

// cancelUpload ends an upload that the registry has begun. If it fails, the registry removes
// the upload some time.
func (c *Client) cancelUpload(ctx context.Context, upload *url.URL) {
	if upload.Host != c.base.Host {
		return
	}
	_ = c.delete(ctx, upload.RequestURI()[len("/v2/"):])
}
