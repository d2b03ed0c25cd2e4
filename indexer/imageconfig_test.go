package indexer_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
)

// Fields that are missing or have another type are skipped, and the others are read.
func TestReadImageConfig(t *testing.T) {
	t.Parallel()
	layers := []ocispec.Descriptor{{Digest: "sha256:base"}, {Digest: "sha256:app"}}
	tests := []struct {
		body string
		want indexer.ImageConfig
	}{
		{"", indexer.ImageConfig{}},
		{"null", indexer.ImageConfig{}},
		{`{"config":{"User":5,"WorkingDir":"/srv","Env":"x","Cmd":["run","it"]},"history":5}`,
			indexer.ImageConfig{WorkingDir: "/srv", Command: []string{"run", "it"}}},
		{`{"config":{"ExposedPorts":{"80/tcp":{},"443/tcp":{}},"Volumes":{"/b":{},"/a":{}}}}`,
			indexer.ImageConfig{Ports: []string{"443/tcp", "80/tcp"}, Volumes: []string{"/a", "/b"}}},
		{`{"history":[{"created_by":"ADD base","created":"today"},{"created_by":"ENV a=b","empty_layer":true},
			{"created_by":"COPY","comment":"buildkit"}]}`,
			indexer.ImageConfig{Steps: []indexer.BuildStep{
				{Created: "today", Command: "ADD base", Layer: &layers[0]}, {Command: "ENV a=b"},
				{Command: "COPY buildkit", Layer: &layers[1]},
			}}},
		{`{"history":[{"created_by":"a squashed image"}]}`,
			indexer.ImageConfig{Steps: []indexer.BuildStep{{Command: "a squashed image"}}}},
	}
	for _, test := range tests {
		if diff := cmp.Diff(test.want, indexer.ReadImageConfig([]byte(test.body), layers)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.body, diff)
		}
	}
}
