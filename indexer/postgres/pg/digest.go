package pg

import (
	"encoding/hex"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// DigestBytes returns the stored form of a digest, nil for "". It panics if the
// digest is not valid, because digests are validated where they are read.
func DigestBytes(d digest.Digest) []byte {
	if d == "" {
		return nil
	}
	raw, err := hex.DecodeString(d.Encoded())
	if err != nil {
		panic(fmt.Sprintf("digest %q was not validated when it was read", d))
	}
	return raw
}

// DigestFrom is the reverse of DigestBytes. The length determines the algorithm; it
// returns "" for any other length.
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
