package push_test

import (
	"slices"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/registry/registrytest"
)

// Samples pushes every sample, and moves harbour's latest from 1.0 to 1.1.
func TestSamples(t *testing.T) {
	t.Parallel()
	receiver := registrytest.NewReceiver(t)
	r := registrytest.Start(t, registrytest.Config{Notify: receiver.URL})
	if err := push.Samples(t.Context(), r.Push); err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct{ repository, tag, mediaType string }{
		{"samples/harbour", "1.0", ocispec.MediaTypeImageIndex},
		{"samples/harbour", "latest", ocispec.MediaTypeImageIndex},
		{"samples/lighthouse", "0.3.0", ocispec.MediaTypeImageManifest},
		{"samples/cargo", "2.4", push.DockerManifest},
		{"samples/charts/quay", "0.1.0", ocispec.MediaTypeImageManifest},
	} {
		desc, _, err := r.Push.Fetch(t.Context(), want.repository, want.tag)
		if err != nil || desc.MediaType != want.mediaType {
			t.Errorf("%s:%s: got %q, %v, want %q", want.repository, want.tag, desc.MediaType, err, want.mediaType)
		}
	}
	receiver.Wait(t, "push of the last sample", func(e registrytest.Event) bool {
		return e.Target.Repository == "samples/charts/quay"
	})
	checkHarbour(t, receiver.Events())
}

func checkHarbour(t *testing.T, events []registrytest.Event) {
	t.Helper()
	var tags []string
	digests := map[string][]string{}
	for _, e := range events {
		if e.Target.Repository == "samples/harbour" && e.Target.Tag != "" {
			tags = append(tags, e.Target.Tag)
			digests[e.Target.Tag] = append(digests[e.Target.Tag], e.Target.Digest)
		}
	}
	if want := []string{"1.0", "latest", "1.1", "latest"}; !slices.Equal(tags, want) {
		t.Errorf("got pushed tags %q, want %q", tags, want)
	}
	if want := []string{digests["1.0"][0], digests["1.1"][0]}; !slices.Equal(digests["latest"], want) {
		t.Errorf("got digests of latest %q, want %q", digests["latest"], want)
	}
}

// Pushing the samples again changes no digest.
func TestSamplesAgain(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, registrytest.Config{})
	var latest []string
	for range 2 {
		if err := push.Samples(t.Context(), r.Push); err != nil {
			t.Fatal(err)
		}
		desc, _, err := r.Push.Fetch(t.Context(), "samples/harbour", "latest")
		if err != nil {
			t.Fatal(err)
		}
		latest = append(latest, desc.Digest.String())
	}
	if latest[0] != latest[1] {
		t.Errorf("latest is %s after the first push and %s after the second", latest[0], latest[1])
	}
}
