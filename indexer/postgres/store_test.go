package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/schema/schematest"
)

func image(repository, content string) indexer.Manifest {
	body := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","note":"` + content + `"}`)
	return indexer.Manifest{
		Repository: repository, Digest: digest.FromBytes(body), MediaType: ocispec.MediaTypeImageManifest, Kind: indexer.KindImage,
		Platform: indexer.Platform{OS: "linux", Architecture: "amd64"}, Size: int64(len(body)), Body: body,
		Labels: map[string]string{"content": content},
		Config: &ocispec.Descriptor{Digest: digest.FromString("config " + content), Size: 7},
		Layers: []ocispec.Descriptor{{Digest: digest.FromString("base"), Size: 100}, {Digest: digest.FromString(content), Size: 10}},
	}
}

// store stores the result of reading one reference, by way of a task.
func store(t *testing.T, s *postgres.Store, reference string, f indexer.Finding) {
	t.Helper()
	ctx := context.Background()
	repository := f.Task.Repository
	if err := s.Ask(ctx, []indexer.Ask{{Repository: repository, Reference: indexer.TagOrDigest(reference)}}); err != nil {
		t.Fatal(err)
	}
	tasks, err := s.Claim(ctx, indexer.PriorityConfirm, 1, time.Minute)
	if err != nil || len(tasks) != 1 {
		t.Fatalf("claimed %d tasks, %v", len(tasks), err)
	}
	f.Task = tasks[0]
	if err := s.Apply(ctx, []indexer.Finding{f}); err != nil {
		t.Fatal(err)
	}
}

func setTag(t *testing.T, s *postgres.Store, tag string, m indexer.Manifest) {
	t.Helper()
	store(t, s, tag, indexer.Finding{
		Task: indexer.Task{Repository: m.Repository}, Outcome: indexer.Found, Digest: m.Digest, Manifests: []indexer.Manifest{m}})
}

func view(t *testing.T, s *postgres.Store, f func(*postgres.View) error) {
	t.Helper()
	if err := s.View(context.Background(), indexer.Everyone, f); err != nil {
		t.Fatal(err)
	}
}

// A stored manifest is read back unchanged, as far as it has columns.
func TestManifestComesBack(t *testing.T) {
	t.Parallel()
	s := postgres.New(schematest.New(t), postgres.Config{})
	m := image("demo/app", "first")
	m.ContentSize, m.CreatedAt = 117, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	m.Annotations = map[string]string{"a": "b\uFFFDc"}
	m.ConfigBody = []byte(`{"config": {"Labels": {"escaped": "a\\u0000b"}}}`)
	m.Problems = []string{"one", "two"}
	setTag(t, s, "v1", m)
	view(t, s, func(v *postgres.View) error {
		got, err := v.Manifest(t.Context(), indexer.Reference{Repository: "demo/app", Tag: "v1"})
		if err != nil {
			return err
		}
		if !got.CreatedAt.Equal(m.CreatedAt) || got.SeenAt.IsZero() {
			t.Errorf("created %v, seen %v", got.CreatedAt, got.SeenAt)
		}
		if want := `{"config": {"Labels": {"escaped": "a\\u0000b"}}}`; string(got.ConfigBody) != want {
			t.Errorf("config is %s, want %s", got.ConfigBody, want)
		}
		want := m
		// These are read from the body, which does not contain them here.
		want.Config, want.Layers = nil, nil
		got.CreatedAt, got.SeenAt, got.ConfigBody = want.CreatedAt, want.SeenAt, want.ConfigBody
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		return nil
	})
}

// A push that arrives while the same tag is being read is not lost.
func TestAskedForWhileRead(t *testing.T) {
	t.Parallel()
	s := postgres.New(schematest.New(t), postgres.Config{})
	ctx := t.Context()
	ask := []indexer.Ask{{Repository: "app", Reference: "latest"}}
	claim := func() []indexer.Task {
		t.Helper()
		tasks, err := s.Claim(ctx, indexer.PriorityConfirm, 10, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		return tasks
	}
	finish := func(tasks []indexer.Task) {
		t.Helper()
		if err := s.Apply(ctx, []indexer.Finding{{Task: tasks[0], Outcome: indexer.Gone}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Ask(ctx, ask); err != nil {
		t.Fatal(err)
	}
	first := claim()
	if err := s.Ask(ctx, ask); err != nil {
		t.Fatal(err)
	}
	if again := claim(); len(again) != 0 {
		t.Fatal("two workers read the reference at the same time")
	}
	finish(first)
	second := claim()
	if len(second) != 1 {
		t.Fatal("the second push was lost")
	}
	finish(second)
	if left := claim(); len(left) != 0 {
		t.Error("a finished task is still due")
	}
}

// A worker whose lease ended, and whose task another worker has claimed, cannot
// store its result: it may be older.
func TestStaleReader(t *testing.T) {
	t.Parallel()
	s := postgres.New(schematest.New(t), postgres.Config{})
	ctx := t.Context()
	if err := s.Ask(ctx, []indexer.Ask{{Repository: "app", Reference: "latest"}}); err != nil {
		t.Fatal(err)
	}
	slow, err := s.Claim(ctx, indexer.PriorityConfirm, 1, 0) // the lease ends at once
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Claim(ctx, indexer.PriorityConfirm, 1, time.Minute); err != nil {
		t.Fatal(err)
	}
	m := image("app", "old")
	found := indexer.Finding{Task: slow[0], Outcome: indexer.Found, Digest: m.Digest, Manifests: []indexer.Manifest{m}}
	if err := s.Apply(ctx, []indexer.Finding{found}); err == nil {
		t.Error("a worker without its lease stored its result")
	}
	view(t, s, func(v *postgres.View) error {
		if _, err := v.Repository(ctx, "app"); err == nil {
			t.Error("a part of the result was stored")
		}
		return nil
	})
}

// Two states of the book with the same version are the same. Otherwise a client that
// gets 304 would keep old content.
func TestVersionNeverLies(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	s := postgres.New(pool, postgres.Config{})
	ctx, stop := context.WithCancel(t.Context())
	const writers, readers, writes = 8, 4, 40
	var writing, reading sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			name := fmt.Sprintf("app-%d", w%4) // some share a repository
			for i := range writes {
				apply(t, s, name, fmt.Sprintf("tag-%d", w), fmt.Sprintf("%d-%d", w, i))
			}
		})
	}
	var mu sync.Mutex
	states := map[indexer.Version]string{}
	for range readers {
		reading.Go(func() {
			for ctx.Err() == nil {
				version, content := state(t, s)
				mu.Lock()
				if before, seen := states[version]; seen && before != content {
					t.Errorf("version %v is both\n%s\nand\n%s", version, before, content)
				}
				states[version] = content
				mu.Unlock()
			}
		})
	}
	writing.Wait()
	stop()
	reading.Wait()
	if len(states) < 10 {
		t.Errorf("only %d states were seen: nothing was tested", len(states))
	}
}

// apply enqueues a tag, then moves the tags of at most two due tasks to new images.
func apply(t *testing.T, s *postgres.Store, repository, tag, content string) {
	ctx := context.Background()
	if err := s.Ask(ctx, []indexer.Ask{{Repository: repository, Reference: indexer.TagOrDigest(tag)}}); err != nil {
		t.Error(err)
		return
	}
	tasks, err := s.Claim(ctx, indexer.PriorityConfirm, 2, time.Minute)
	if err != nil {
		t.Error(err)
		return
	}
	var findings []indexer.Finding
	for _, task := range tasks {
		m := image(task.Repository, content+string(task.Reference))
		findings = append(findings, indexer.Finding{Task: task, Outcome: indexer.Found, Digest: m.Digest, Manifests: []indexer.Manifest{m}})
	}
	time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond) // so that commits and claims have different orders
	if err := s.Apply(ctx, findings); err != nil {
		t.Error(err)
	}
}

func state(t *testing.T, s *postgres.Store) (version indexer.Version, content string) {
	ctx := context.Background()
	err := s.View(ctx, indexer.Everyone, func(v *postgres.View) (err error) {
		if version, err = v.Version(ctx); err != nil {
			return err
		}
		repositories, err := v.Repositories(ctx, "", 100)
		if err != nil {
			return err
		}
		for _, r := range repositories {
			tags, err := v.Tags(ctx, r.Name, "", 100)
			if err != nil {
				return err
			}
			for _, tag := range tags {
				content += fmt.Sprintf("%s:%s@%s\n", r.Name, tag.Name, tag.Digest)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return version, content
}

// Tidy deletes what nothing refers to, and keeps everything else.
func TestTidy(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	s := postgres.New(pool, postgres.Config{})
	ctx := t.Context()
	kept, gone := image("demo/app", "kept"), image("demo/app", "gone")
	setTag(t, s, "v1", kept)
	setTag(t, s, "v2", gone)
	remove := indexer.Finding{Task: indexer.Task{Repository: "demo/app"}, Outcome: indexer.Gone}
	store(t, s, "v2", remove)
	store(t, s, gone.Digest.String(), remove)
	n, err := s.Tidy(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if want := (postgres.Tidied{Blobs: 2}); n != want { // its config and its own layer; the base layer is shared
		t.Errorf("tidied %+v, want %+v", n, want)
	}
	var left int
	if err := pool.QueryRow(ctx, "SELECT count(*) FROM blob").Scan(&left); err != nil || left != 3 {
		t.Errorf("got %d blobs left, %v, want the 3 of the remaining image", left, err)
	}
}

// Nobody fills the table of operations: old ones are deleted unless something needs them, and one
// user asks only for so many a day.
func TestOperationsAreBounded(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	s := postgres.New(pool, postgres.Config{})
	ctx := access.WithActor(t.Context(), access.Actor{Name: "ann"})
	exec := func(sql string) {
		t.Helper()
		if _, err := pool.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(`INSERT INTO operation (id, kind, repository, actor, state, created_at, ended_at)
			SELECT n, 'untag', 'team/app', 'ann', 'done', now() - interval '91 days', now() - interval '91 days' FROM generate_series(1, 5) n;
		INSERT INTO operation (id, kind, repository, actor, created_at) VALUES (6, 'untag', 'team/app', 'ann', now() - interval '91 days');
		INSERT INTO operation (id, kind, repository, actor, state, ended_at) VALUES (7, 'untag', 'team/app', 'ann', 'done', now());
		INSERT INTO trash (operation_id, repository, digest, media_type, body) VALUES (2, 'team/app', sha256('x'), '', '');
		INSERT INTO plan (scope, state, reason, created_by, operation_id, undo_id) VALUES ('*', 'made', 'request', 'ann', 3, 4);
		SELECT setval(pg_get_serial_sequence('operation', 'id'), 7)`)
	n, err := s.Tidy(ctx)
	if err != nil || n.Operations != 2 {
		t.Errorf("%+v, %v: want the operations 1 and 5 deleted", n, err)
	}
	exec(`INSERT INTO operation (kind, repository, actor, state, ended_at) SELECT 'untag', 'team/app', 'ann', 'done', now() FROM generate_series(1, 9998)`)
	o := indexer.Operation{Kind: indexer.Untag, Repository: "team/app", Tag: "v1"}
	if _, err := s.AddOperation(ctx, o); err != nil { // the last of 10,000 within a day
		t.Fatal(err)
	}
	if _, err := s.AddOperation(ctx, o); !errors.Is(err, indexer.ErrConflict) {
		t.Errorf("one more: %v", err)
	}
	if _, err := s.AddOperation(access.WithActor(ctx, access.Actor{Name: "bob"}), o); err != nil {
		t.Errorf("another user: %v", err)
	}
	exec("UPDATE operation SET created_at = created_at - interval '1 day' WHERE actor = 'ann'")
	if _, err := s.AddOperation(ctx, o); err != nil {
		t.Errorf("the next day: %v", err)
	}
}

// Matches in names come before matches elsewhere, and an exact name comes first.
func TestSearchOrder(t *testing.T) {
	t.Parallel()
	s := postgres.New(schematest.New(t), postgres.Config{})
	add := func(name, description string) {
		m := image(name, name)
		m.Labels = map[string]string{"org.opencontainers.image.description": description}
		setTag(t, s, "latest", m)
	}
	add("z/anchor-chain", "")
	add("tools/winch", "lifts the anchor")
	add("anchor", "")
	add("demo/anchor", "")
	add("demo/anchorage", "")
	add("other/ship", "does not match")
	tests := []struct {
		query string
		want  []string
	}{
		{"anchor", []string{"anchor", "demo/anchor", "demo/anchorage", "z/anchor-chain", "tools/winch"}},
		{"Anchor", []string{"anchor", "demo/anchor", "demo/anchorage", "z/anchor-chain", "tools/winch"}},
		{"demo/anchor", []string{"demo/anchor", "demo/anchorage"}},
		{"anch lifts", nil}, // only the last word is a prefix
		{"lifts anch", []string{"tools/winch"}},
		{"nothing", nil},
		{"o'brien & | ! :* <-> \\", nil},
	}
	for _, test := range tests {
		view(t, s, func(v *postgres.View) error {
			results, err := v.Search(t.Context(), query.Plain(test.query).Page(25, 0))
			var got []string
			for _, r := range results.Items {
				got = append(got, r.Name)
			}
			if diff := cmp.Diff(test.want, got); diff != "" || results.Total != len(test.want) {
				t.Errorf("search for %q: total %d (-want +got)\n%s", test.query, results.Total, diff)
			}
			return err
		})
	}
}
