package push

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// layers pushes the image's layers. It returns their descriptors and the digests of
// their uncompressed bytes; neither is nil, because a manifest must have a list of
// layers.
func (c *Client) layers(
	ctx context.Context, repository string, types imageTypes, spec ImageSpec,
) ([]ocispec.Descriptor, []digest.Digest, error) {
	contents := spec.Layers
	if len(spec.Files) > 0 {
		files, err := tarball(spec.Files)
		if err != nil {
			return nil, nil, err
		}
		contents = append([][]byte{files}, contents...)
	}
	descs, diffIDs := []ocispec.Descriptor{}, []digest.Digest{}
	for i, content := range contents {
		mediaType, diffID, err := types.identify(content)
		if err != nil {
			return nil, nil, fmt.Errorf("layer %d for %q: %w", i, repository, err)
		}
		desc, err := c.typedBlob(ctx, repository, mediaType, content)
		if err != nil {
			return nil, nil, err
		}
		descs, diffIDs = append(descs, desc), append(diffIDs, diffID)
	}
	return descs, diffIDs, nil
}

// identify returns a layer's media type and the digest of its uncompressed bytes. It
// recognises gzip by the magic number of RFC 1952, section 2.3.1.
func (types imageTypes) identify(layer []byte) (string, digest.Digest, error) {
	if !bytes.HasPrefix(layer, []byte{0x1f, 0x8b}) {
		return types.layer, digest.FromBytes(layer), nil
	}
	r, err := gzip.NewReader(bytes.NewReader(layer))
	if err != nil {
		return "", "", err
	}
	diffID, err := digest.FromReader(io.LimitReader(r, maxBlob))
	return types.layerGzip, diffID, err
}

// tarball returns a gzipped tar of regular files, sorted by path. Their time is the
// Unix epoch, and their mode 0755, so that each can be an entrypoint.
func tarball(files map[string]string) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, path := range slices.Sorted(maps.Keys(files)) {
		header := tar.Header{Typeflag: tar.TypeReg, Name: path, Mode: 0o755,
			Size: int64(len(files[path])), ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
		if err := w.WriteHeader(&header); err != nil {
			return nil, fmt.Errorf("tar %q: %w", path, err)
		}
		if _, err := io.WriteString(w, files[path]); err != nil {
			return nil, fmt.Errorf("tar %q: %w", path, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("tar: %w", err)
	}
	return storedGzip(buf.Bytes()), nil
}

// storedGzip returns b as a gzip file with stored blocks. compress/gzip may write
// other bytes in another release of Go, which would change the digests of all our
// images. Stored blocks have only one form.
func storedGzip(b []byte) []byte {
	const most = 65535 // bytes in a stored block: RFC 1951, section 3.2.4
	// RFC 1952, section 2.3: magic, deflate, no flags, no time, unknown system.
	out := []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}
	for rest := b; ; rest = rest[most:] {
		if len(rest) <= most {
			out = append(block(out, 1, rest), binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(b))...)
			return binary.LittleEndian.AppendUint32(out, uint32(len(b)))
		}
		out = block(out, 0, rest[:most])
	}
}

// block appends a stored block. Final is 1 for the last block, else 0.
func block(out []byte, final byte, b []byte) []byte {
	size := uint16(len(b))
	out = binary.LittleEndian.AppendUint16(append(out, final), size)
	out = binary.LittleEndian.AppendUint16(out, ^size)
	return append(out, b...)
}
