package indexer_test

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
)

func TestSubjectOfTag(t *testing.T) {
	t.Parallel()
	hex := strings.Repeat("0a", 32)
	for tag, want := range map[string]digest.Digest{
		"sha256-" + hex:              digest.Digest("sha256:" + hex),
		"sha256-" + hex + ".sig":     digest.Digest("sha256:" + hex),
		"sha256-" + hex + ".Sig":     "",
		"sha256-" + hex + "0":        "",
		"sha512-" + hex:              "",
		"sha256-" + hex[1:] + ".sig": "",
		"latest":                     "",
	} {
		if got := indexer.SubjectOfTag(tag); got != want {
			t.Errorf("the subject of %s is %q, want %q", tag, got, want)
		}
	}
}

// The type of a referrer tells its kind, then the tag of an older tool, then the image
// index that lists it beside its subject.
func TestReferrerKind(t *testing.T) {
	t.Parallel()
	const empty = "application/vnd.oci.empty.v1+json"
	kept := "sha256-" + strings.Repeat("0a", 32)
	tests := []struct {
		referrer indexer.Referrer
		want     indexer.ReferrerKind
	}{
		{indexer.Referrer{}, ""},
		{indexer.Referrer{ArtifactType: "application/vnd.cncf.notary.signature"}, indexer.Signature},
		{indexer.Referrer{ArtifactType: "application/SPDX+json"}, indexer.SBOM},
		{indexer.Referrer{MediaType: "application/vnd.cyclonedx+json"}, indexer.SBOM},
		{indexer.Referrer{ArtifactType: "text/plain", MediaType: "application/vnd.cyclonedx+json"}, ""},
		{indexer.Referrer{ArtifactType: "application/vnd.in-toto+json"}, indexer.Attestation},
		{indexer.Referrer{ArtifactType: empty, Tag: kept + ".sig"}, indexer.Signature},
		{indexer.Referrer{ArtifactType: empty, Tag: kept + ".sbom"}, indexer.SBOM},
		{indexer.Referrer{ArtifactType: empty, Tag: kept + ".att"}, indexer.Attestation},
		{indexer.Referrer{ArtifactType: empty, Tag: kept}, ""},
		{indexer.Referrer{ArtifactType: "application/spdx+json", Tag: kept + ".att", Beside: true}, indexer.SBOM},
		{indexer.Referrer{ArtifactType: empty, Beside: true}, indexer.Attestation},
	}
	for _, test := range tests {
		if got := test.referrer.Kind(); got != test.want {
			t.Errorf("%+v is %q, want %q", test.referrer, got, test.want)
		}
	}
}
