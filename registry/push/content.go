package push

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types of Docker's image manifest version 2, schema 2, which image-spec
// does not name (distribution v3.1.2, manifest/schema2 and manifestlist).
const (
	DockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	DockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
	DockerConfig       = "application/vnd.docker.container.image.v1+json"
	DockerLayer        = "application/vnd.docker.image.rootfs.diff.tar"
	DockerLayerGzip    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

// octetStream is the Content-Type of uploads of blobs. It must not be that of a
// form, which is curl's default: with authentication on, the registry then consumes
// the body to look for the parameter "from" (registry/handlers/app.go, authorized).
const octetStream = "application/octet-stream"

const (
	maxManifest = 4 << 20  // bytes; the registry refuses larger manifests
	maxBlob     = 64 << 20 // bytes; far more than our layers have
	maxAnswer   = 64 << 10 // bytes; far more than an answer to a write has
)

// manifestTypes is the Accept header of reads of manifests. The registry answers
// 404 for an OCI manifest or index whose media type is not listed.
var manifestTypes = []string{
	ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, DockerManifest, DockerManifestList,
}

// Blob pushes data and returns its descriptor, with the media type
// application/octet-stream. It does not send data that the repository has already.
func (c *Client) Blob(ctx context.Context, repository string, data []byte) (ocispec.Descriptor, error) {
	desc := describe(octetStream, data)
	has, err := c.hasBlob(ctx, repository, desc.Digest)
	if err != nil || has {
		return desc, err
	}
	return desc, c.upload(ctx, repository, desc.Digest, data)
}

// typedBlob is like Blob but sets the media type of the descriptor.
func (c *Client) typedBlob(ctx context.Context, repository, mediaType string, data []byte) (ocispec.Descriptor, error) {
	desc, err := c.Blob(ctx, repository, data)
	desc.MediaType = mediaType
	return desc, err
}

func (c *Client) hasBlob(ctx context.Context, repository string, dgst digest.Digest) (bool, error) {
	_, _, err := c.do(ctx, call{
		op:     fmt.Sprintf("head blob \"%s@%s\"", repository, dgst),
		method: http.MethodHead, url: c.url(repository, "blobs", dgst.String()),
		want: http.StatusOK,
	})
	if refused := new(Error); errors.As(err, &refused) && refused.Status == http.StatusNotFound {
		return false, nil
	}
	return err == nil, err
}

// upload sends a blob in one piece: POST begins the upload, PUT sends data and ends
// it.
func (c *Client) upload(ctx context.Context, repository string, dgst digest.Digest, data []byte) error {
	begin := call{
		op:     fmt.Sprintf("begin upload to %q", repository),
		method: http.MethodPost, url: c.url(repository, "blobs", "uploads/"),
		want: http.StatusAccepted, limit: maxAnswer,
	}
	header, _, err := c.do(ctx, begin)
	if err != nil {
		return err
	}
	to, err := uploadURL(begin.url, header.Get("Location"), dgst.String())
	if err != nil {
		return fmt.Errorf("%s: %w", begin.op, err)
	}
	_, _, err = c.do(ctx, call{
		op:     fmt.Sprintf("put blob \"%s@%s\" of %d bytes", repository, dgst, len(data)),
		method: http.MethodPut, url: to, contentType: octetStream, body: data,
		want: http.StatusCreated, limit: maxAnswer,
	})
	return err
}

// Manifest pushes body unchanged. Reference is a tag, or "" to push by digest only.
// It fails if the registry answers with another digest.
func (c *Client) Manifest(
	ctx context.Context, repository, reference, mediaType string, body []byte,
) (ocispec.Descriptor, error) {
	desc := describe(mediaType, body)
	if reference == "" {
		reference = desc.Digest.String()
	}
	op := fmt.Sprintf("put manifest %q %q", repository, reference)
	header, _, err := c.do(ctx, call{
		op:     op,
		method: http.MethodPut, url: c.url(repository, "manifests", reference),
		contentType: mediaType, body: body,
		want: http.StatusCreated, limit: maxAnswer,
	})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if got := header.Get("Docker-Content-Digest"); got != desc.Digest.String() {
		return ocispec.Descriptor{}, fmt.Errorf("%s: registry stored %q, want %q", op, got, desc.Digest)
	}
	return desc, nil
}

// Fetch returns a manifest or index and its descriptor. Reference is a tag or a
// digest. The digest of the descriptor is computed from the bytes; its media type is
// the one that the registry answers.
func (c *Client) Fetch(ctx context.Context, repository, reference string) (ocispec.Descriptor, []byte, error) {
	header, body, err := c.do(ctx, call{
		op:     fmt.Sprintf("get manifest %q %q", repository, reference),
		method: http.MethodGet, url: c.url(repository, "manifests", reference), accept: manifestTypes,
		want: http.StatusOK, limit: maxManifest,
	})
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	return describe(header.Get("Content-Type"), body), body, nil
}

// FetchBlob returns the bytes of a blob. It fails if they do not have the digest.
func (c *Client) FetchBlob(ctx context.Context, repository string, dgst digest.Digest) ([]byte, error) {
	op := fmt.Sprintf("get blob \"%s@%s\"", repository, dgst)
	_, body, err := c.do(ctx, call{
		op:     op,
		method: http.MethodGet, url: c.url(repository, "blobs", dgst.String()),
		want: http.StatusOK, limit: maxBlob,
	})
	if err != nil {
		return nil, err
	}
	if got := digest.FromBytes(body); got != dgst {
		return nil, fmt.Errorf("%s: the bytes have the digest %s", op, got)
	}
	return body, nil
}

// Delete deletes a tag, or a manifest with all its tags if reference is a
// digest. The registry refuses with status 405 unless deletes are enabled.
func (c *Client) Delete(ctx context.Context, repository, reference string) error {
	_, _, err := c.do(ctx, call{
		op:     fmt.Sprintf("delete manifest %q %q", repository, reference),
		method: http.MethodDelete, url: c.url(repository, "manifests", reference),
		want: http.StatusAccepted, limit: maxAnswer,
	})
	return err
}

func describe(mediaType string, b []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
}
