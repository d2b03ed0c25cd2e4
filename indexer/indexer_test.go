package indexer_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/portbook/portbook/indexer"
)

const aDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestParseReference(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in   string
		want indexer.Reference // zero: ErrInvalid
	}{
		{"app", indexer.Reference{Repository: "app"}},
		{"demo/app", indexer.Reference{Repository: "demo/app"}},
		{"demo/app:v1.0", indexer.Reference{Repository: "demo/app", Tag: "v1.0"}},
		{"a/b@" + aDigest, indexer.Reference{Repository: "a/b", Digest: aDigest}},
		{"a/b:v1@" + aDigest, indexer.Reference{Repository: "a/b", Tag: "v1", Digest: aDigest}},
		{"a-b/c__d/e.f-g", indexer.Reference{Repository: "a-b/c__d/e.f-g"}},
		{"", indexer.Reference{}},
		{"Upper/case", indexer.Reference{}},
		{"host:5000/app", indexer.Reference{}},
		{"a/../b", indexer.Reference{}},
		{"a//b", indexer.Reference{}},
		{"a/b:", indexer.Reference{}},
		{"a/b:-x", indexer.Reference{}},
		{"a/b@sha256:abc", indexer.Reference{}},
		{"a/b@md5:d41d8cd98f00b204e9800998ecf8427e", indexer.Reference{}},
		{strings.Repeat("a", 256), indexer.Reference{}},
	}
	for _, test := range tests {
		got, err := indexer.ParseReference(test.in)
		if test.want == (indexer.Reference{}) {
			if !errors.Is(err, indexer.ErrInvalid) {
				t.Errorf("ParseReference(%q) = %v, %v; want ErrInvalid", test.in, got, err)
			}
			continue
		}
		if err != nil || got != test.want {
			t.Errorf("ParseReference(%q) = %v, %v; want %v", test.in, got, err, test.want)
		}
	}
}

// A tag or digest is told apart by its colon, and names a manifest in a repository.
func TestParseTagOrDigest(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]indexer.Reference{
		"v1.0":            {Repository: "app", Tag: "v1.0"},
		"sha256-0a":       {Repository: "app", Tag: "sha256-0a"},
		aDigest:           {Repository: "app", Digest: aDigest},
		"":                {},
		"-x":              {},
		"a/b":             {},
		"sha256:0a":       {},
		"app:v1":          {},
		"app@" + aDigest:  {},
		aDigest + "\x00x": {},
	} {
		got, err := indexer.ParseTagOrDigest(text)
		if want == (indexer.Reference{}) {
			if !errors.Is(err, indexer.ErrInvalid) {
				t.Errorf("ParseTagOrDigest(%q) = %q, %v; want ErrInvalid", text, got, err)
			}
			continue
		}
		if err != nil || got.In("app") != want || got.IsDigest() != (want.Digest != "") || got.IsTag() != (want.Tag != "") {
			t.Errorf("ParseTagOrDigest(%q) = %q, %v; want %v", text, got, err, want)
		}
	}
}

// String must return the text that ParseReference has parsed.
func FuzzParseReference(f *testing.F) {
	f.Add("demo/app:v1@" + aDigest)
	f.Fuzz(func(t *testing.T, s string) {
		if ref, err := indexer.ParseReference(s); err == nil && ref.String() != s {
			t.Errorf("%q was parsed, but formatted as %q", s, ref.String())
		}
	})
}

func TestPlatform(t *testing.T) {
	t.Parallel()
	tests := map[indexer.Platform]string{
		{}:                                 "",
		{OS: "linux", Architecture: "arm"}: "linux/arm",
		{OS: "linux", Architecture: "arm", Variant: "v7"}: "linux/arm/v7",
	}
	for p, want := range tests {
		if got := p.String(); got != want {
			t.Errorf("%#v is %q, want %q", p, got, want)
		}
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	title, description := indexer.Describe(
		map[string]string{"name": "plain", "org.opencontainers.image.description": "annotation"},
		map[string]string{"org.opencontainers.image.title": "Label", "org.opencontainers.image.description": "label"},
	)
	if title != "Label" || description != "annotation" {
		t.Errorf("title %q, description %q; want the best key first, then the first set", title, description)
	}
}
