package postgres_test

import (
	"context"
	"net/url"
	"reflect"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/schema/schematest"
)

// Every method of the book works for a user with only the SELECT privilege, because
// readers run on standbys. Each query must find something, because a statement that
// finds nothing may not read all its tables.
func TestReadersNeedOnlySelect(t *testing.T) {
	t.Parallel()
	address := schematest.URL(t)
	pool, err := pgxpool.New(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	m := image("demo/app", "first")
	fillForReaders(t, postgres.New(pool, postgres.Config{}), m)
	reader := postgres.New(asReader(t, pool, address), postgres.Config{Memory: 1 << 30})
	if err := reader.CopyStep(t.Context()); err != nil {
		t.Fatal(err)
	}
	questions := readersQueries(t.Context(), m)
	for method := range reflect.TypeFor[answer.Book]().Methods() {
		ask, known := questions[method.Name]
		if !known {
			t.Errorf("this test does not call the method %s of the book", method.Name)
			continue
		}
		view(t, reader, func(v *postgres.View) error {
			if n, err := ask(v); err != nil || n == 0 {
				t.Errorf("%s: %d, %v", method.Name, n, err)
			}
			return nil
		})
	}
	if err := reader.Ask(t.Context(), []indexer.Ask{{Repository: "a", Reference: "b"}}); err == nil {
		t.Error("the user can write: nothing was tested")
	}
}

// fillForReaders stores something that each method of the book finds.
func fillForReaders(t *testing.T, s *postgres.Store, m indexer.Manifest) {
	t.Helper()
	setTag(t, s, "v1", m)
	signature := image("demo/app", "signature")
	signature.Subject = m.Digest
	setTag(t, s, "signed", signature)
	if _, err := s.CountStorage(t.Context()); err != nil {
		t.Fatal(err)
	}
	must(t, s.ChangePackages(t.Context(), func(x *postgres.PackageIndex) error {
		return x.Set(t.Context(), map[string][]byte{"app": []byte("x")})
	}))
	countPulls(t, s, aPull("demo/app", "v1", m.Digest, indexer.ByPerson))
	if err := s.EndLook(t.Context(), indexer.StorageLook{Begin: time.Now(), Blobs: 3}, time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CountProjects(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.BeginReports(t.Context(), []indexer.Job{{Name: "scan"}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Ask(t.Context(), []indexer.Ask{{Repository: "demo/app", Reference: "v2"}}); err != nil {
		t.Fatal(err)
	}
}

// readersQueries returns queries by the name of the method. Each returns the size
// of its result.
func readersQueries(ctx context.Context, m indexer.Manifest) map[string]func(*postgres.View) (int, error) {
	images := query.Images{
		{Field: query.FieldRepository, Op: query.OpEquals, Values: []string{"demo/app"}},
		{Field: query.FieldTag, Op: query.OpMatches, Values: []string{"v*"}},
		{Field: query.FieldOS, Op: query.OpEquals, Values: []string{"linux"}},
		{Field: query.FieldArchitecture, Op: query.OpEquals, Values: []string{"arm64", "amd64"}},
		{Field: query.FieldLabel, Name: "content", Op: query.OpExists},
	}
	const name = "demo/app"
	return map[string]func(*postgres.View) (int, error){
		"Asker":   func(v *postgres.View) (int, error) { return len(v.Asker().String()), nil },
		"Version": func(v *postgres.View) (int, error) { r, err := v.Version(ctx); return int(r.Number), err },
		"Search": func(v *postgres.View) (int, error) {
			r, err := v.Search(ctx, query.Plain("demo").Page(5, 0))
			return r.Total, err
		},
		"Project":        func(v *postgres.View) (int, error) { r, err := v.Project(ctx, "demo", 5); return len(r), err },
		"Held":           func(v *postgres.View) (int, error) { r, err := v.Held(ctx, name); return int(r.Size), err },
		"HeldTags":       func(v *postgres.View) (int, error) { r, err := v.HeldTags(ctx, name, 5); return len(r), err },
		"HeldManifests":  func(v *postgres.View) (int, error) { r, err := v.HeldManifests(ctx, name, 5); return len(r), err },
		"ProjectStorage": func(v *postgres.View) (int, error) { r, err := v.ProjectStorage(ctx, "demo"); return int(r.Size), err },

		"Repositories": func(v *postgres.View) (int, error) { r, err := v.Repositories(ctx, "", 5); return len(r), err },
		"Repository":   func(v *postgres.View) (int, error) { r, err := v.Repository(ctx, name); return r.Tags, err },
		"Tags":         func(v *postgres.View) (int, error) { r, err := v.Tags(ctx, name, "", 5); return len(r), err },
		"Versions": func(v *postgres.View) (int, error) {
			r, err := v.Versions(ctx, []string{name})
			return len(r[name]), err
		},
		"PackageFiles": func(v *postgres.View) (int, error) {
			r, err := v.PackageFiles(ctx, "demo/", []string{"app"})
			return len(r), err
		},
		"TagsOf":      func(v *postgres.View) (int, error) { r, err := v.TagsOf(ctx, name, m.Digest); return len(r), err },
		"Images":      func(v *postgres.View) (int, error) { r, err := v.Images(ctx, images); return len(r), err },
		"ImagesState": func(v *postgres.View) (int, error) { r, err := v.ImagesState(ctx, images); return len(r), err },
		"Manifest": func(v *postgres.View) (int, error) {
			r, err := v.Manifest(ctx, indexer.Reference{Repository: name, Digest: m.Digest})
			return len(r.Body), err
		},
		"Referrers": func(v *postgres.View) (int, error) {
			r, err := v.Referrers(ctx, indexer.ReferrerQuery{Repository: name, Subject: m.Digest, Limit: 5})
			return len(r.Items), err
		},
		"Facets": func(v *postgres.View) (int, error) {
			r, err := v.Facets(ctx, query.Plain("demo"))
			return r.Counted, err
		},
		"Suggest": func(v *postgres.View) (int, error) { r, err := v.Suggest(ctx, "namespace:d", 5); return len(r), err },
		"Correct": func(v *postgres.View) (int, error) { r, err := v.Correct(ctx, query.Plain("deno")); return len(r), err },
		"Near":    func(v *postgres.View) (int, error) { r, err := v.Near(ctx, query.Plain("deno")); return len(r), err },
		"Names":   func(v *postgres.View) (int, error) { r, err := v.Names(ctx, "", 5); return len(r), err },
		"History": func(v *postgres.View) (int, error) { r, err := v.History(ctx, name, "", 0, 5); return len(r), err },
		"Descriptors": func(v *postgres.View) (int, error) {
			r, err := v.Descriptors(ctx, name, []digest.Digest{m.Digest})
			return int(r[m.Digest].Size), err
		},
		"HistoryAt": func(v *postgres.View) (int, error) { r, err := v.HistoryAt(ctx, time.Unix(0, 0)); return int(r), err },
		"RepositoriesAt": func(v *postgres.View) (int, error) {
			r, err := v.RepositoriesAt(ctx, time.Now(), "", 5)
			return len(r), err
		},
		"HistoryBegins": func(v *postgres.View) (int, error) { r, err := v.HistoryBegins(ctx); return r.Year(), err },
		"SearchAt": func(v *postgres.View) (int, error) {
			r, err := v.SearchAt(ctx, query.Plain("demo").Page(5, 0), time.Now())
			return len(r.Items), err
		},
		"RepositoryAt": func(v *postgres.View) (int, error) {
			r, err := v.RepositoryAt(ctx, name, time.Now())
			return r.Tags, err
		},
		"TagsAt": func(v *postgres.View) (int, error) {
			r, err := v.TagsAt(ctx, name, time.Now(), "", "", 5)
			return len(r), err
		},
		"Uses":              func(v *postgres.View) (int, error) { r, err := v.Uses(ctx, m.Digest, "", "", 5); return len(r), err },
		"Freshness":         func(v *postgres.View) (int, error) { r, err := v.Freshness(ctx); return int(r.Version.Number), err },
		"CountRepositories": func(v *postgres.View) (int, error) { return v.CountRepositories(ctx) },
		"Overview":          func(v *postgres.View) (int, error) { r, err := v.Overview(ctx); return r.Tags.N, err },
		"Copy":              func(v *postgres.View) (int, error) { r, err := v.Copy(ctx); return r.Repositories, err },
		"Jobs":              func(v *postgres.View) (int, error) { r, err := v.Jobs(ctx); return len(r.Jobs), err },
		"Status":            func(v *postgres.View) (int, error) { r, err := v.Status(ctx); return r.TasksDue, err },
		"Notices":           func(v *postgres.View) (int, error) { _, err := v.Notices(ctx, "library/nginx"); return 1, err },
		"Storage":           func(v *postgres.View) (int, error) { r, err := v.Storage(ctx); return r.Repositories, err },
		"Usage": func(v *postgres.View) (int, error) {
			n := 0
			for _, q := range []indexer.UsageQuery{{}, {Tag: "v1"}, {Digest: m.Digest}} {
				q.Repository, q.Days = name, 5
				u, err := v.Usage(ctx, q)
				if n += len(u.Days); err != nil {
					return 0, err
				}
			}
			return max(n-2, 0), nil
		},
		"LastPulls": func(v *postgres.View) (int, error) {
			r, err := v.LastPulls(ctx, name, []string{"v1"}, []digest.Digest{m.Digest})
			return len(r.Tags) * len(r.Digests), err
		},
		"NamespaceStorage": func(v *postgres.View) (int, error) {
			r, err := v.NamespaceStorage(ctx, nil, 5)
			return len(r), err
		},
		"RepositoryStorage": func(v *postgres.View) (int, error) {
			r, err := v.RepositoryStorage(ctx, indexer.StorageQuery{Limit: 5})
			return len(r), err
		},
		"Holding": func(v *postgres.View) (int, error) {
			r, err := v.Holding(ctx, indexer.HoldingOf{Reference: indexer.Reference{Repository: name, Tag: "v1"}})
			return r.Frees.FreesBlobs, err
		},
		"StorageLook":  func(v *postgres.View) (int, error) { r, err := v.StorageLook(ctx); return int(r.Blobs), err },
		"AllManifests": func(v *postgres.View) (int, error) { r, err := v.AllManifests(ctx, "", "", 5); return len(r), err },
		"AllTags":      func(v *postgres.View) (int, error) { r, err := v.AllTags(ctx, "", "", 5); return len(r), err },
	}
}

// asReader returns a pool of a user with only the SELECT privilege.
func asReader(t *testing.T, pool *pgxpool.Pool, address string) *pgxpool.Pool {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	user := "reader_of_" + u.Path[1:]
	for _, q := range []string{
		"CREATE ROLE " + user + " LOGIN PASSWORD 'reader'",
		"GRANT SELECT ON ALL TABLES IN SCHEMA public TO " + user,
	} {
		if _, err := pool.Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { // after the reader's pool is closed
		for _, q := range []string{"DROP OWNED BY " + user, "DROP ROLE " + user} {
			if _, err := pool.Exec(context.Background(), q); err != nil {
				t.Error(err)
			}
		}
	})
	u.User = url.UserPassword(user, "reader")
	reading, err := pgxpool.New(t.Context(), u.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(reading.Close)
	return reading
}

// All conditions of an image query must hold for the same image.
func TestImages(t *testing.T) {
	t.Parallel()
	s := postgres.New(schematest.New(t), postgres.Config{})
	amd, arm := image("apps/hello", "amd64"), image("apps/hello", "arm64")
	arm.Platform.Architecture = "arm64"
	for _, m := range []*indexer.Manifest{&amd, &arm} {
		m.Labels = map[string]string{"ref": "app/x", "team": "100%"}
		m.Annotations = map[string]string{"note": "a_b"}
	}
	setTag(t, s, "latest", amd)
	setTag(t, s, "arm", arm)
	index := indexer.Manifest{
		Repository: "apps/hello", Digest: digest.FromString("index"), Kind: indexer.KindIndex, MediaType: "application/vnd.oci.image.index.v1+json",
		Entries: []indexer.Entry{{Digest: amd.Digest, MediaType: amd.MediaType}, {Digest: arm.Digest, MediaType: arm.MediaType}},
	}
	setTag(t, s, "multi", index)
	eq := func(f query.Field, values ...string) query.Condition {
		return query.Condition{Field: f, Op: query.OpEquals, Values: values}
	}
	key := func(f query.Field, name string, op query.Op, values ...string) query.Condition {
		return query.Condition{Field: f, Name: name, Op: op, Values: values}
	}
	tests := []struct {
		name           string
		query          query.Images
		images, listed int
	}{
		{"everything", nil, 2, 2},
		{"one architecture", query.Images{eq(query.FieldArchitecture, "arm64")}, 1, 1},
		{"either architecture", query.Images{eq(query.FieldArchitecture, "arm64", "amd64")}, 2, 2},
		{"a tag of an image", query.Images{eq(query.FieldTag, "latest")}, 1, 0},
		{"a tag of the index", query.Images{eq(query.FieldTag, "multi")}, 0, 2},
		{"both conditions on one image", query.Images{eq(query.FieldTag, "latest"), eq(query.FieldArchitecture, "arm64")}, 0, 0},
		{"tags by glob", query.Images{{Field: query.FieldTag, Op: query.OpMatches, Values: []string{"l?test", "ar*"}}}, 2, 0},
		{"label exists", query.Images{key(query.FieldLabel, "ref", query.OpExists)}, 2, 2},
		{"label that is an annotation", query.Images{key(query.FieldLabel, "note", query.OpExists)}, 0, 0},
		{"label equals", query.Images{key(query.FieldLabel, "team", query.OpEquals, "no", "100%")}, 2, 2},
		{"label is case-sensitive", query.Images{key(query.FieldLabel, "ref", query.OpEquals, "APP/X")}, 0, 0},
		{"percent is no glob", query.Images{key(query.FieldLabel, "ref", query.OpMatches, "app%")}, 0, 0},
		{"underscore is no glob", query.Images{key(query.FieldAnnotation, "note", query.OpMatches, "a__")}, 0, 0},
		{"annotation by glob", query.Images{key(query.FieldAnnotation, "note", query.OpMatches, "a?b")}, 2, 2},
		{"NUL in a repository", query.Images{eq(query.FieldRepository, "\x00")}, 0, 0},
	}
	for _, test := range tests {
		view(t, s, func(v *postgres.View) error {
			found, err := v.Images(t.Context(), test.query)
			images, listed := 0, 0
			for _, r := range found {
				images += len(r.Images)
				for _, l := range r.Lists {
					listed += len(l.Images)
				}
			}
			if images != test.images || listed != test.listed {
				t.Errorf("%s: %d images and %d in lists, want %d and %d", test.name, images, listed, test.images, test.listed)
			}
			return err
		})
	}
}
