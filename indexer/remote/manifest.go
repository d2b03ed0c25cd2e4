package remote

import (
	"context"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types of Docker's image manifest version 2, schema 2. image-spec has no
// constants for them.
const (
	MediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// MaxManifest is the maximum size of a manifest that is read: 4 MiB. The stock
// registry stores none that is larger (distribution v3.1.2,
// registry/handlers/manifests.go).
const MaxManifest = 4 << 20

// accept lists the media types of all manifests that a registry may store. The stock
// registry answers 404 for an OCI manifest if its type is not in the header Accept.
var accept = []string{
	ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, MediaTypeDockerManifest, MediaTypeDockerList,
}

// Manifest reads a manifest or image index. Reference is a tag or a digest. The digest
// and the size in bytes of the descriptor are computed from the body; only the media
// type is from a header.
//
// It returns ErrNotFound if the registry answers 404, ErrUnavailable if it does not
// answer, and ErrInvalid if the body does not match the requested digest or is larger
// than MaxManifest.
func (c *Client) Manifest(ctx context.Context, repository, reference string) ([]byte, ocispec.Descriptor, error) {
	body, desc, _, err := c.manifest(ctx, repository, reference, "")
	return body, desc, err
}

// ManifestUnless is like Manifest, but if the tag shows the digest known, it reads
// nothing and same is true.
func (c *Client) ManifestUnless(
	ctx context.Context, repository, tag string, known digest.Digest,
) (body []byte, desc ocispec.Descriptor, same bool, err error) {
	return c.manifest(ctx, repository, tag, known)
}

func (c *Client) manifest(
	ctx context.Context, repository, reference string, known digest.Digest,
) (_ []byte, desc ocispec.Descriptor, same bool, _ error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	path := repository + "/manifests/" + reference
	resp, err := c.do(ctx, http.MethodGet, path, conditional(known), http.StatusOK, http.StatusNotModified)
	if err != nil {
		return nil, desc, false, err
	}
	defer discard(resp)
	if resp.StatusCode == http.StatusNotModified {
		return nil, desc, true, nil
	}
	body, err := c.readAll(resp, path, MaxManifest)
	if err != nil {
		return nil, desc, false, err
	}
	desc = ocispec.Descriptor{MediaType: mediaType(resp), Digest: digest.FromBytes(body), Size: int64(len(body))}
	if want, err := digest.Parse(reference); err == nil {
		if desc.Digest = want.Algorithm().FromBytes(body); desc.Digest != want {
			return nil, desc, false, invalid("the manifest %s@%s does not match its digest: its bytes have the digest %s",
				repository, want, desc.Digest)
		}
	}
	return body, desc, false, nil
}

// Shows returns the digest that a tag shows, without reading the manifest. It is cheap
// if that is the known digest: a 304 costs the registry one file read, and the registry
// sends no event for it. The digest is from a header and not checked: it is a hint.
//
// The known digest must be one that the tag showed before, or "". Do not use Shows for
// a reference that is a digest: the registry answers 304 without checking that the
// manifest exists. Use Exists.
func (c *Client) Shows(ctx context.Context, repository, tag string, known digest.Digest) (digest.Digest, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	path := repository + "/manifests/" + tag
	resp, err := c.do(ctx, http.MethodHead, path, conditional(known), http.StatusOK, http.StatusNotModified)
	if err != nil {
		return "", err
	}
	defer discard(resp)
	if resp.StatusCode == http.StatusNotModified {
		return known, nil
	}
	d, err := digest.Parse(resp.Header.Get("Docker-Content-Digest"))
	if err != nil {
		return "", invalid("the registry sent no digest of %s:%s", repository, tag)
	}
	return d, nil
}

// Exists returns nil if the registry has the manifest, and ErrNotFound if it has not.
func (c *Client) Exists(ctx context.Context, repository string, d digest.Digest) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := c.do(ctx, http.MethodHead, repository+"/manifests/"+d.String(), conditional(""), http.StatusOK)
	if err != nil {
		return err
	}
	discard(resp)
	return nil
}

// Blob reads a blob. It returns ErrInvalid if the blob is larger than limit bytes or
// does not match the digest.
func (c *Client) Blob(ctx context.Context, repository string, d digest.Digest, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	path := repository + "/blobs/" + d.String()
	resp, err := c.do(ctx, http.MethodGet, path, nil, http.StatusOK)
	if err != nil {
		return nil, err
	}
	defer discard(resp)
	body, err := c.readAll(resp, path, limit)
	if err != nil {
		return nil, err
	}
	if got := d.Algorithm().FromBytes(body); got != d {
		return nil, invalid("the blob %s@%s does not match its digest: its bytes have the digest %s", repository, d, got)
	}
	return body, nil
}

// conditional returns the headers of a request for a manifest. Unless known is "", the
// registry answers 304 if the digest is known.
func conditional(known digest.Digest) http.Header {
	h := http.Header{"Accept": accept}
	if known != "" {
		h.Set("If-None-Match", `"`+known.String()+`"`)
	}
	return h
}

// mediaType returns the media type without parameters, or "" if there is none.
func mediaType(resp *http.Response) string {
	ct := resp.Header.Get("Content-Type")
	if t, _, err := mime.ParseMediaType(ct); err == nil {
		return t
	}
	return strings.TrimSpace(ct)
}

// readAll reads a body. It returns ErrInvalid if the body is larger than limit bytes.
func (c *Client) readAll(resp *http.Response, path string, limit int64) ([]byte, error) {
	if resp.ContentLength > limit {
		return nil, tooLarge(path, limit)
	}
	buf := make([]byte, 0, max(resp.ContentLength, 512)+1)
	body := io.LimitReader(resp.Body, limit+1)
	for {
		n, err := body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case int64(len(buf)) > limit:
			return nil, tooLarge(path, limit)
		case err == io.EOF:
			return buf, nil
		case err != nil:
			return nil, c.unreachable(resp.Request.Context(), http.MethodGet, path, resp.Request.URL, err)
		case len(buf) == cap(buf):
			buf = append(buf, 0)[:len(buf)]
		}
	}
}

func tooLarge(path string, limit int64) error {
	return invalid("the answer to %s is larger than %d bytes", request(http.MethodGet, path), limit)
}
