package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
)

// A repository of 1,000 tags on one index of 3,000 entries can show its tags, also
// those of the past: the sizes of the entries are added up once, not for each tag.
func TestTagsOnOneLargeIndex(t *testing.T) {
	t.Parallel()
	s, _ := stock(t)
	ctx := t.Context()
	child := made("big/x", "linux/amd64", 7, 1, "")
	index := listing("big/x", child)
	s.Find("big/x", "t0", index, child)
	for _, q := range []string{
		`CREATE TABLE the AS SELECT r.id AS repository, m.id AS manifest, m.media_type_id AS type, c.platform_id AS platform, m.digest AS digest, c.media_type_id AS child_type
			FROM repository r JOIN manifest m ON m.repository_id = r.id AND m.kind = 'index' JOIN manifest c ON c.repository_id = r.id AND c.kind = 'image' WHERE r.name = 'big/x'`,
		`INSERT INTO manifest (repository_id, digest, media_type_id, kind, platform_id, size, content_size)
			SELECT repository, sha256(n::text::bytea), child_type, 'image', platform, 1, 7 FROM the, generate_series(2, 3000) n`,
		`INSERT INTO index_entry (repository_id, manifest_id, position, digest, media_type_id, platform_id, size)
			SELECT repository, manifest, n, sha256(n::text::bytea), child_type, platform, 1 FROM the, generate_series(2, 3000) n`,
		`INSERT INTO tag (repository_id, name, manifest_id) SELECT repository, 't' || n, manifest FROM the, generate_series(1, 999) n`,
		`UPDATE image_search SET size = 21000 WHERE (repository_id, manifest_id) = (SELECT repository, manifest FROM the)`,
		`INSERT INTO tag_history (repository, tag, to_digest, seen_by) SELECT 'big/x', 't' || n, digest, 'scan' FROM the, generate_series(1, 999) n`,
		`ANALYZE manifest, index_entry, tag, tag_history`,
	} {
		if err := s.exec(q); err != nil {
			t.Fatalf("%.40s: %v", q, err)
		}
	}
	for what, tags := range map[string]func(*postgres.View) ([]indexer.Tag, error){
		"now":  func(v *postgres.View) ([]indexer.Tag, error) { return v.Tags(ctx, "big/x", "", 1000) },
		"then": func(v *postgres.View) ([]indexer.Tag, error) { return v.TagsAt(ctx, "big/x", time.Now(), "", "", 1000) },
	} {
		err := s.View(ctx, indexer.Everyone, func(v *postgres.View) error {
			got, err := tags(v)
			if len(got) != 1000 {
				t.Errorf("%s: %d tags, %v", what, len(got), err)
			}
			for _, tag := range got {
				if tag.Size != 21_000 || len(tag.Platforms) != postgres.MaxShownPlatforms {
					return fmt.Errorf("%s has %d bytes and %d platforms", tag.Name, tag.Size, len(tag.Platforms))
				}
			}
			return err
		})
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	// An index without a tag has no search row.
	if err := s.exec("DELETE FROM image_search WHERE size = 21000"); err != nil {
		t.Fatal(err)
	}
	err := s.View(ctx, indexer.Everyone, func(v *postgres.View) error {
		got, err := v.TagsAt(ctx, "big/x", time.Now(), "", "", 1)
		if len(got) != 1 || got[0].Size != 21_000 {
			t.Errorf("without a search row: %+v", got)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func (s shelf) exec(sql string) error { _, err := s.Pool.Exec(s.T.Context(), sql); return err }
