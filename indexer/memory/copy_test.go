package memory_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/memory"
	"github.com/portbook/portbook/indexer/query"
)

// A book is a random book of rows, of which a copy is made. It is a memory.Source of its
// present state.
type book struct {
	random  *rand.Rand
	vector  memory.Vector
	rows    map[int32]memory.Row
	changes map[[2]int64][]int32 // by shard and number
}

func newBook(seed uint64) *book {
	return &book{
		random: rand.New(rand.NewPCG(seed, 1)), vector: memory.Vector{Epoch: "a", Shards: make([]int64, 3)},
		rows: map[int32]memory.Row{}, changes: map[[2]int64][]int32{},
	}
}

var (
	someWords  = []string{"proxy", "edge", "reverse", "cache", "nginx", "nginy", "app", "apps", "tool", "é"}
	someFacts  = []indexer.Fact{"os:linux", "arch:amd64", "arch:arm64", "is:multiarch", "label:team", "label:stage", "licence:MIT"}
	someSpaces = []string{"team", "team2", "library", "a"}
)

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

// row returns a random row.
func (b *book) row(id int32) memory.Row {
	name := pick(b.random, someWords[:9]) + fmt.Sprint("-", id)
	if b.random.IntN(4) > 0 {
		name = pick(b.random, someSpaces) + "/" + name
	}
	r := memory.Row{
		ID: id, Name: name, Pulls: b.random.Int64N(2), PulledAt: b.random.Int64N(3), UpdatedAt: b.random.Int64N(50), Size: b.random.Int64N(50),
		Words: b.words(name),
	}
	for range b.random.IntN(4) {
		r.Facts = append(r.Facts, pick(b.random, someFacts))
	}
	slices.Sort(r.Facts)
	r.Facts = slices.Compact(r.Facts)
	for _, f := range r.Facts {
		r.Terms = append(r.Terms, memory.Hash(string(f)))
	}
	for _, key := range []string{"label:team", "annotation:k"} {
		if b.random.IntN(3) == 0 {
			r.Terms = append(r.Terms, memory.Hash(key), memory.Hash(key+memory.TermSeparator+pick(b.random, someWords)))
		}
	}
	return r
}

// words returns the words of a name and of two short texts.
func (b *book) words(name string) []string {
	words := query.WordsInOrder(name)
	for range 2 {
		words = append(words, "", pick(b.random, someWords), pick(b.random, someWords))
	}
	return words
}

// commit changes some repositories, and returns which.
func (b *book) commit(repositories, most int) {
	var changed []int32
	for range b.random.IntN(most + 1) {
		id := int32(1 + b.random.IntN(repositories))
		name := b.rows[id].Name
		delete(b.rows, id)
		if b.random.IntN(4) > 0 {
			row := b.row(id)
			if name != "" {
				row.Name = name // of a repository it never changes
				row.Words = b.words(name)
			}
			b.rows[id] = row
		}
		changed = append(changed, id)
	}
	shard := b.random.IntN(len(b.vector.Shards))
	b.vector.Shards = slices.Clone(b.vector.Shards)
	b.vector.Shards[shard]++
	b.changes[[2]int64{int64(shard), b.vector.Shards[shard]}] = changed
}

func (b *book) Changed(_ context.Context, since memory.Vector) (ids []int32, known bool, err error) {
	if _, later := b.vector.After(since); !later {
		return nil, false, nil
	}
	for shard, n := range b.vector.Shards {
		for v := since.Shards[shard] + 1; v <= n; v++ {
			changed, known := b.changes[[2]int64{int64(shard), v}]
			if !known {
				return nil, false, nil
			}
			ids = append(ids, changed...)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), true, nil
}

func (b *book) Rows(_ context.Context, ids []int32) (rows []memory.Row, err error) {
	for _, id := range ids {
		if r, there := b.rows[id]; there {
			rows = append(rows, r)
		}
	}
	return rows, nil
}

// fill makes a copy ready, a number of rows at a time.
func (b *book) fill(t *testing.T, c *memory.Copy, each int) {
	t.Helper()
	builder := c.Builder()
	var all []memory.Row
	for _, r := range b.rows {
		all = append(all, r)
	}
	for rows := range slices.Chunk(all, each) {
		if err := builder.Add(rows); err != nil {
			t.Fatal(err)
		}
	}
	if err := builder.Replace(t.Context(), b.vector, b.vector, b); err != nil {
		t.Fatal(err)
	}
}

func (b *book) state(t *testing.T, c *memory.Copy) *memory.State {
	t.Helper()
	st, err := c.At(t.Context(), b.vector, b)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// hits returns the repositories of hits, without where a copy has them.
func hits(of []memory.Hit) (ids []string) {
	for _, h := range of {
		ids = append(ids, fmt.Sprint(h.ID, h.Maybe))
	}
	return ids
}

var askers = []indexer.Visibility{indexer.AllVisible, indexer.VisibleNames("team/*", "app-1"), {}}

// everything returns the answers of a state to questions of each kind, as text.
func everything(st *memory.State) string {
	var b strings.Builder
	for _, v := range askers {
		fmt.Fprintln(&b, st.Count(v), st.Names(v, "a", 9), st.Names(v, "nginx", 5), st.Namespaces(v, "t", 3),
			st.Values(v, indexer.FactArchitecture, "a", 3), st.Near(v, "nginz", 1), st.Knows(v, "ap", true))
		for _, text := range []string{"", "proxy", "app", "reverse OR nginx", "-edge", "namespace:team app", "label:team", "label:team=edge", "os:linux -arch:arm64", "pulls:>0", "pulled:never OR edge", "-pulled:>1970", "repo:*n*", `"nginx app"`, `-"app edge" proxy`} {
			for _, sort := range []query.Sort{query.SortRelevance, query.SortName, query.SortUpdated, query.SortSize, query.SortPulls} {
				q, err := query.Parse(text, time.Now())
				if err != nil {
					panic(err)
				}
				q.Sort = sort
				m, err := st.Match(context.Background(), memory.Question{Query: q, Visible: v})
				if err != nil {
					panic(err)
				}
				sure, maybe := m.Count()
				facets, err := m.Facets(3, nil) // no row has too many keys
				fmt.Fprintln(&b, text, sort, sure, maybe, hits(m.Top(30)), facets, err)
				m.Close()
			}
		}
	}
	return b.String()
}

// A copy that took in changes, in whatever segments, answers like one that was built from
// all rows at once.
func TestChanges(t *testing.T) {
	t.Parallel()
	b := newBook(1)
	for range 50 {
		b.commit(300, 20)
	}
	c := memory.New(1 << 30)
	b.fill(t, c, 37)
	for i := range 400 {
		b.commit(300, 1+i%7)
		if b.random.IntN(3) > 0 {
			continue // the next one takes both in
		}
		st := b.state(t, c)
		if i%5 == 0 {
			if _, err := c.Merge(t.Context()); err != nil {
				t.Fatal(err)
			}
			st = b.state(t, c)
		}
		fresh := memory.New(1 << 30)
		b.fill(t, fresh, memory.MaxRows)
		if st.Len() != len(b.rows) {
			t.Fatalf("got %d repositories, want %d", st.Len(), len(b.rows))
		}
		if diff := cmp.Diff(everything(b.state(t, fresh)), everything(st)); diff != "" {
			t.Fatalf("after %d commits (-fresh +changed)\n%s", i, diff)
		}
	}
	if n := b.state(t, c).Segments(); n > 40 {
		t.Errorf("got %d segments, want some to be merged", n)
	}
}

// An older state stays as it is while the copy goes on. Once it is forgotten, or if the
// server never had it, the copy says so.
func TestStates(t *testing.T) {
	t.Parallel()
	b := newBook(2)
	b.commit(50, 50)
	c := memory.New(1 << 30)
	if _, err := c.At(t.Context(), b.vector, b); !errors.Is(err, memory.ErrNotReady) {
		t.Fatalf("got %v from an empty copy, want ErrNotReady", err)
	}
	b.fill(t, c, 10)
	old := b.vector
	before := everything(b.state(t, c))
	for range 3 {
		b.commit(50, 5)
		b.state(t, c)
	}
	st, err := c.At(t.Context(), old, b)
	if err != nil || everything(st) != before {
		t.Errorf("got error %v, or another answer in an older state", err)
	}
	for range 20 {
		b.commit(50, 5)
		b.state(t, c)
	}
	if _, err := c.At(t.Context(), old, b); !errors.Is(err, memory.ErrPast) {
		t.Errorf("got %v for a state of long ago, want ErrPast", err)
	}
	aside := memory.Vector{Epoch: b.vector.Epoch, Shards: slices.Clone(b.vector.Shards)}
	aside.Shards[0]++
	aside.Shards[1]--
	if _, err := c.At(t.Context(), aside, b); !errors.Is(err, memory.ErrPast) {
		t.Errorf("got %v for a state that is neither before nor after, want ErrPast", err)
	}
}

// A copy that cannot know what changed is built again before it answers again.
func TestUnknownChanges(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*book){
		"a change is not recorded": func(b *book) { b.commit(50, 3); clear(b.changes) },
		"another life":             func(b *book) { b.vector.Epoch = "b" },
	} {
		b := newBook(3)
		b.commit(50, 50)
		c := memory.New(1 << 30)
		b.fill(t, c, 10)
		lose(b)
		for range 2 {
			if _, err := c.At(t.Context(), b.vector, b); !errors.Is(err, memory.ErrNotReady) {
				t.Errorf("%s: got %v, want ErrNotReady", name, err)
			}
		}
		b.fill(t, c, 10)
		if st := b.state(t, c); st.Len() != len(b.rows) {
			t.Errorf("%s: got %d repositories, want %d", name, st.Len(), len(b.rows))
		}
	}
}

// Rows that were read while the copy was built, after its beginning, are read again.
func TestBuiltWhileWritten(t *testing.T) {
	t.Parallel()
	b := newBook(4)
	b.commit(50, 200)
	c := memory.New(1 << 30)
	builder, since := c.Builder(), b.vector
	var early, late []memory.Row
	for id, r := range b.rows {
		if id%2 == 0 {
			early = append(early, r)
		}
	}
	for range 5 {
		b.commit(50, 10)
	}
	for id, r := range b.rows {
		if id%2 == 1 {
			late = append(late, r)
		}
	}
	if err := errors.Join(builder.Add(early), builder.Add(late), builder.Replace(t.Context(), since, b.vector, b)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.At(t.Context(), since, b); !errors.Is(err, memory.ErrPast) {
		t.Errorf("got %v for the state at the beginning, want ErrPast", err)
	}
	fresh := memory.New(1 << 30)
	b.fill(t, fresh, 100)
	if diff := cmp.Diff(everything(b.state(t, fresh)), everything(b.state(t, c))); diff != "" {
		t.Errorf("(-fresh +built while written)\n%s", diff)
	}
}

// A copy that would exceed its limit is not ready, when it is built and later.
func TestLimit(t *testing.T) {
	t.Parallel()
	b := newBook(5)
	b.commit(100, 100)
	var all []memory.Row
	for _, r := range b.rows {
		all = append(all, r)
	}
	if err := memory.New(1000).Builder().Add(all); !errors.Is(err, memory.ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
	measured := memory.New(1 << 30)
	b.fill(t, measured, 100)
	c := memory.New(b.state(t, measured).Bytes() + 10_000)
	b.fill(t, c, 100)
	for range 1000 {
		b.commit(10_000, 100)
		_, err := c.At(t.Context(), b.vector, b)
		if errors.Is(err, memory.ErrTooLarge) && errors.Is(err, memory.ErrNotReady) {
			if _, err := c.At(t.Context(), b.vector, b); !errors.Is(err, memory.ErrNotReady) {
				t.Errorf("got %v after that, want ErrNotReady", err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Error("the copy grows beyond its limit")
}

// A request does not take in very many changes, and CatchUp does.
func TestManyChanges(t *testing.T) {
	t.Parallel()
	b := newBook(6)
	b.commit(10, 10)
	c := memory.New(1 << 30)
	b.fill(t, c, 100)
	for range 200 {
		b.commit(5000, 20)
	}
	if _, err := c.At(t.Context(), b.vector, b); !errors.Is(err, memory.ErrNotReady) {
		t.Errorf("got %v, want ErrNotReady", err)
	}
	if _, err := c.CatchUp(t.Context(), b.vector, b); err != nil {
		t.Error(err)
	}
	if st := b.state(t, c); st.Len() != len(b.rows) {
		t.Errorf("got %d repositories, want %d", st.Len(), len(b.rows))
	}
}

// A question whose context has ended is not answered.
func TestMatchEnds(t *testing.T) {
	t.Parallel()
	b := newBook(7)
	b.commit(10, 10)
	c := memory.New(1 << 30)
	b.fill(t, c, 100)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if m, err := b.state(t, c).Match(ctx, memory.Question{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, %v, want context.Canceled", m, err)
	}
}

// A namespace is completed up to the next slash.
func TestNamespaces(t *testing.T) {
	t.Parallel()
	b := newBook(8)
	for id, name := range []string{"team/app", "team/tools/a", "team/tools/b", "team/tests/a", "teams", "team2/app", "app"} {
		b.rows[int32(id)] = memory.Row{ID: int32(id), Name: name}
	}
	c := memory.New(1 << 30)
	b.fill(t, c, 3)
	for typed, want := range map[string][]string{
		"":        {"team", "team2"},
		"te":      {"team", "team2"},
		"team":    {"team", "team2"},
		"team/":   {"team/tests", "team/tools"},
		"team/to": {"team/tools"},
		"app":     nil,
	} {
		if got := b.state(t, c).Namespaces(indexer.AllVisible, typed, 5); !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", typed, got, want)
		}
	}
}
