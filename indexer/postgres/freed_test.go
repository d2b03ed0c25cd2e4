package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/schema/schematest"
)

// A plainRegistry is what a registry holds.
type plainRegistry map[indexer.ManifestRef]indexer.Manifest

// freed computes what deleting manifests frees by looking at every manifest.
func (r plainRegistry) freed(refs []indexer.ManifestRef, sees indexer.Visibility) indexer.Freed {
	freed := indexer.Freed{Part: !sees.All()}
	deleted, used, stored := map[indexer.ManifestRef]bool{}, map[digest.Digest]bool{}, map[digest.Digest]int64{}
	for _, ref := range refs {
		m, ok := r[ref]
		if !ok || !sees.Sees(ref.Repository) {
			continue
		}
		deleted[ref] = true
		stored[m.Digest] = m.Size
		for _, blob := range blobsOf(m) {
			stored[blob.Digest] = blob.Size
		}
	}
	freed.Manifests = len(deleted)
	for ref, m := range r {
		if deleted[ref] || !sees.Sees(ref.Repository) {
			continue
		}
		used[m.Digest] = true
		for _, blob := range blobsOf(m) {
			used[blob.Digest] = true
		}
		for _, e := range m.Entries {
			used[e.Digest] = true
		}
	}
	for d, size := range stored {
		isManifest := slices.ContainsFunc(slices.Collect(maps.Keys(deleted)), func(ref indexer.ManifestRef) bool { return ref.Digest == d })
		switch {
		case used[d]:
			freed.AddShared(size)
			if isManifest {
				freed.SharedManifests += size
			}
		default:
			freed.AddFrees(size)
			if isManifest {
				freed.FreesManifests += size
			}
		}
	}
	return freed
}

func blobsOf(m indexer.Manifest) []ocispec.Descriptor {
	if m.Config == nil {
		return m.Layers
	}
	return append(slices.Clone(m.Layers), *m.Config)
}

// refs returns the manifests in the same order each time.
func (r plainRegistry) refs() []indexer.ManifestRef {
	return slices.SortedFunc(maps.Keys(r), func(a, b indexer.ManifestRef) int {
		return slices.Compare([]string{a.Repository, a.Digest.String()}, []string{b.Repository, b.Digest.String()})
	})
}

// add returns a random manifest of a repository, and adds it: an image that shares its
// config and layers with others and may be in other repositories too, one that has a
// manifest as its layer, or an index of manifests that may be in other repositories only.
func (r plainRegistry) add(random *rand.Rand, repository string) indexer.Manifest {
	number := random.IntN(40)
	m := image(repository, fmt.Sprint("random ", number))
	blob := func(kind string, n int) ocispec.Descriptor {
		return ocispec.Descriptor{Digest: digest.FromString(fmt.Sprint(kind, n)), Size: int64(n*n + len(kind))}
	}
	config := blob("config", number/2)
	m.Config, m.Layers = &config, nil
	for i := range number % 4 {
		m.Layers = append(m.Layers, blob("layer", (number*7+i*11)%30), blob("layer", number%5))
	}
	known := r.refs()
	if len(known) > 5 {
		first, second := r[known[random.IntN(len(known))]], r[known[random.IntN(len(known))]]
		switch random.IntN(6) {
		case 0, 1:
			m = indexOf(repository, first, second)
			if first.Digest == second.Digest {
				m = indexOf(repository, first)
			}
			m.Digest = digest.FromString(fmt.Sprint("index of ", first.Digest, second.Digest))
		case 2:
			m.Layers = append(m.Layers, ocispec.Descriptor{Digest: first.Digest, Size: first.Size})
			m.Digest = digest.FromString(fmt.Sprint("manifest as layer ", number, first.Digest))
		}
	}
	r[indexer.ManifestRef{Repository: repository, Digest: m.Digest}] = m
	return m
}

// What deleting manifests would free is what is found by looking at every manifest, for
// who sees everything and who sees a part.
func TestFreed(t *testing.T) {
	t.Parallel()
	s := postgres.New(schematest.New(t), postgres.Config{})
	seed := uint64(time.Now().UnixNano())
	random, registry := rand.New(rand.NewPCG(seed, 1)), plainRegistry{}
	for i := range 90 {
		m := registry.add(random, []string{"team/a", "team/b", "other/c", "alone"}[random.IntN(4)])
		if i%3 == 0 {
			setTag(t, s, fmt.Sprint("v", random.IntN(9)), m)
		} else {
			store(t, s, m.Digest.String(), indexer.Finding{Task: indexer.Task{Repository: m.Repository}, Outcome: indexer.Found,
				Digest: m.Digest, Manifests: []indexer.Manifest{m}})
		}
	}
	all := registry.refs()
	missing := indexer.ManifestRef{Repository: "team/a", Digest: digest.FromString("missing")}
	for _, sees := range []indexer.Visibility{indexer.AllVisible, indexer.VisibleNames("team/*"), indexer.VisibleNames("alone", "*c"), {}} {
		for _, n := range []int{0, 1, 1, 1, 1, 2, 3, 5, 10, 20, len(all) - 1, len(all), 2 * len(all)} {
			refs := []indexer.ManifestRef{missing, {Repository: "no\x00", Digest: "sha256:x"}}
			for _, i := range random.Perm(len(all))[:min(n, len(all))] {
				refs = append(refs, all[i])
			}
			if n > len(all) { // each twice
				refs = append(refs, refs...)
			}
			err := s.View(t.Context(), indexer.AskerOf(sees), func(v *postgres.View) error {
				alone, got, err := v.FreedEach(t.Context(), refs)
				if err != nil {
					return err
				}
				if diff := cmp.Diff(registry.freed(refs, sees), got); diff != "" {
					t.Errorf("seed %d, who sees %v: %d manifests (-want +got)\n%s", seed, sees, n, diff)
				}
				walked, same, err := postgres.FreedByWalking(t.Context(), v, refs)
				if err != nil {
					return err
				}
				if diff := cmp.Diff(got, same) + cmp.Diff(alone, walked); diff != "" {
					t.Errorf("seed %d, who sees %v: %d manifests, by walking all (-want +got)\n%s", seed, sees, n, diff)
				}
				for i := range refs {
					if want := registry.freed(refs[i:i+1], sees).Frees; alone[i] != want && !slices.Contains(refs[:i], refs[i]) {
						t.Errorf("seed %d, who sees %v: %v alone frees %d, want %d", seed, sees, refs[i], alone[i], want)
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A manifest may claim any size for its layers.
func TestFreedIsBounded(t *testing.T) {
	t.Parallel()
	s := postgres.New(schematest.New(t), postgres.Config{})
	m := heavy("app", map[string]int64{"a": 1<<63 - 1, "b": 1<<63 - 1})
	setTag(t, s, "v1", m)
	view(t, s, func(v *postgres.View) error {
		got, err := v.Freed(t.Context(), []indexer.ManifestRef{{Repository: "app", Digest: m.Digest}})
		if got.Frees != indexer.MaxSize || got.FreesBlobs != 3 {
			t.Errorf("got %+v", got)
		}
		return err
	})
}

// When time runs out, the view can still be used, and nothing is said to be free that
// was not looked at.
func TestFreedInTime(t *testing.T) {
	t.Parallel()
	s := postgres.New(schematest.New(t), postgres.Config{})
	m := image("app", "one")
	setTag(t, s, "v1", m)
	view(t, s, func(v *postgres.View) error {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		got, err := v.Freed(ctx, []indexer.ManifestRef{{Repository: "app", Digest: m.Digest}})
		if !errors.Is(err, indexer.ErrTooSlow) || got.Frees != 0 {
			t.Errorf("without time: got %+v, %v", got, err)
		}
		_, err = v.Repository(t.Context(), "app")
		return err
	})
}
