package ingest_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/registry/registrytest"
)

// pushRandom pushes images and indexes that share configs and layers to some repositories,
// each with a tag of its own. It returns them, and the indexes that list each image.
func pushRandom(t *testing.T, h *harness, random *rand.Rand) (all []indexer.ManifestRef, listing map[indexer.ManifestRef][]indexer.ManifestRef) {
	t.Helper()
	images := map[string][]ocispec.Descriptor{}
	listing = map[indexer.ManifestRef][]indexer.ManifestRef{}
	for i := range 28 {
		repository := []string{"team/a", "team/b", "alone"}[random.IntN(3)]
		spec := push.ImageSpec{Labels: map[string]string{"config": fmt.Sprint(random.IntN(12))}}
		for range random.IntN(4) {
			layer := random.IntN(8)
			spec.Layers = append(spec.Layers, bytes.Repeat([]byte{byte(layer)}, 512*(layer+2)))
		}
		tag := fmt.Sprint("t", i)
		desc, err := h.push.Image(t.Context(), repository, tag, spec)
		if known := images[repository]; i%3 == 2 && len(known) > 0 {
			listed := []ocispec.Descriptor{desc, known[random.IntN(len(known))]}
			desc, err = h.push.Index(t.Context(), repository, tag, listed, nil)
			for _, l := range listed {
				image := indexer.ManifestRef{Repository: repository, Digest: l.Digest}
				listing[image] = append(listing[image], indexer.ManifestRef{Repository: repository, Digest: desc.Digest})
			}
		} else {
			images[repository] = append(images[repository], desc)
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, indexer.ManifestRef{Repository: repository, Digest: desc.Digest})
	}
	return all, listing
}

// What Freed says is what the garbage collection of the registry really frees on its disk
// after the manifests are deleted, byte for byte. An image goes only with the indexes that list
// it: the registry keeps its bytes for an index of which the book then knows no more.
func TestFreedIsWhatGarbageCollectionFrees(t *testing.T) {
	t.Parallel()
	h := open(t, registrytest.Config{Root: t.TempDir()})
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	all, listing := pushRandom(t, h, random)
	h.scan()
	h.registry.CollectGarbage()
	freed := int64(0)
	for round := range 4 {
		var some []indexer.ManifestRef
		for _, i := range random.Perm(len(all))[:1+round*2] {
			some = append(append(some, all[i]), listing[all[i]]...)
		}
		var want indexer.Freed
		h.view(func(v *postgres.View) (err error) {
			want, err = v.Freed(t.Context(), some)
			return err
		})
		for _, ref := range some {
			err := h.push.Delete(t.Context(), ref.Repository, ref.Digest.String())
			if err != nil && !strings.Contains(err.Error(), "404") { // deleted before
				t.Fatal(err)
			}
		}
		before := h.registry.Stored()
		h.registry.CollectGarbage()
		if got := before - h.registry.Stored(); got != want.Frees {
			t.Fatalf("round %d: %d bytes were freed, want %+v", round, got, want)
		}
		freed += want.Frees
		h.scan()
	}
	if freed == 0 {
		t.Error("nothing was freed")
	}
}
