package sweep

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Records that need several files come back joined and in order, as often as they are read.
func TestSorter(t *testing.T) {
	t.Parallel()
	a, b := newSorter(), newSorter()
	a.length, b.length = 50, 7
	defer a.close()
	defer b.close()
	want := map[key]record{}
	random := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		r := record{flags: 1 << random.IntN(4), size: random.Int64N(9), modified: random.Int64N(9), trashed: random.Int64N(9)}
		r.key[0], r.key[31] = byte(random.IntN(40)), byte(random.IntN(20))
		w := want[r.key]
		w.key = r.key
		w.add(r)
		want[r.key] = w
		[]*sorter{a, b}[random.IntN(2)].add(r)
	}
	for range 2 {
		got, last := map[key]record{}, key{}
		err := merge(func(r record) error {
			if len(got) > 0 && string(r.key[:]) <= string(last[:]) {
				t.Fatalf("%s after %s", r.key, last)
			}
			got[r.key], last = r, r.key
			return nil
		}, a, b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(record{})); diff != "" {
			t.Error(diff)
		}
	}
	if len(a.runs) == 0 || len(b.runs) == 0 {
		t.Errorf("%d and %d files: the test does not sort in files", len(a.runs), len(b.runs))
	}
}

func TestClassify(t *testing.T) {
	t.Parallel()
	const repositories = "/docker/registry/v2/repositories/"
	tests := map[string]file{
		"/docker/registry/v2/blobs/sha256/ab/abcd/data":             {kind: data, digest: "sha256:abcd"},
		"/docker/registry/v2/blobs/sha256/ab/abcd/data.tmp":         {},
		repositories + "a/b/_layers/sha256/abcd/link":               {kind: layer, repository: "a/b", digest: "sha256:abcd"},
		repositories + "a/_manifests/revisions/sha256/abcd/link":    {kind: manifest, repository: "a", digest: "sha256:abcd"},
		repositories + "a/_manifests/revisions/sha256/abcd/l.tmp":   {repository: "a"},
		repositories + "a/_manifests/tags/revisions/current/link":   {repository: "a"},
		repositories + "a/_uploads/some-id/hashstates/sha256/65536": {kind: upload, repository: "a", upload: "some-id"},
		repositories + "layers/manifests/_uploads/some-id/data":     {kind: upload, repository: "layers/manifests", upload: "some-id"},
		"/portbook/trash/20261201T001200.000000001Z-ab/abcd/data": {kind: trash, digest: "sha256:abcd",
			trashed: time.Date(2026, 12, 1, 0, 12, 0, 1, time.UTC)},
		"/portbook/trash/x/abcd/data": {kind: trash, digest: "sha256:abcd"},
	}
	for name, want := range tests {
		if diff := cmp.Diff(want, classify(name), cmp.AllowUnexported(file{})); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
