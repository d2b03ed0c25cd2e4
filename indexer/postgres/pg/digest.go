package pg

import (
	"encoding/hex"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// DigestBytes returns a digest as stored, nil for "". It panics if the digest is
// not valid: digests are checked where they are read.
func DigestBytes(d digest.Digest) []byte {
	if d == "" {
		return nil
	}
	raw, err := hex.DecodeString(d.Encoded())
	if err != nil {
		panic(fmt.Sprintf("digest %q was not checked when it was read", d))
	}
	return raw
}

// DigestFrom is the reverse of DigestBytes: the length tells the algorithm.
func DigestFrom(raw []byte) digest.Digest {
	switch len(raw) {
	case 32:
		return digest.NewDigestFromBytes(digest.SHA256, raw)
	case 48:
		return digest.NewDigestFromBytes(digest.SHA384, raw)
	case 64:
		return digest.NewDigestFromBytes(digest.SHA512, raw)
	}
	return ""
}
