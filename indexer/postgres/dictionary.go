package postgres

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// A dictionary caches the ids of media types and platforms. They are inserted in a
// separate transaction before the one that uses them, so a cached id always exists.
// Unused rows are harmless and are never deleted. One manifest adds at most about
// 120 rows (see ingest), which take less space than its entries.
//
// A dictionary is valid for one cluster only: after a failover an id may be lost and
// then assigned to another word. So each cluster has its own dictionary, and a
// transaction uses ids of its own cluster only.
type dictionary struct {
	cluster    cluster
	mediaTypes sync.Map // string -> int32
	platforms  sync.Map // indexer.Platform -> int32
	size       atomic.Int64
}

// dictionaryOf returns the dictionary of a cluster. If the current one belongs to
// another cluster, it is replaced by an empty one.
func (s *Store) dictionaryOf(c cluster) *dictionary {
	for {
		d := s.dict.Load()
		if d != nil && d.cluster == c {
			return d
		}
		s.dict.CompareAndSwap(d, &dictionary{cluster: c})
	}
}

// learnTries is how often learn tries: 4. Two attempts are needed when the process
// has just started or the database has failed over. More are needed only if two
// servers accept our writes at the same time.
const learnTries = 4

// learn looks up the words of the findings and calls f with the manifest rows, in a
// transaction of the cluster that the ids belong to.
func (s *Store) learn(
	ctx context.Context, findings []indexer.Finding, f func(pgx.Tx, cluster, []manifestRow) error,
) error {
	for range learnTries {
		before := s.dict.Load()
		manifests, err := s.manifestRows(ctx, findings)
		if err != nil {
			return err
		}
		// If d is still before, all ids came from that dictionary.
		d := s.dict.Load()
		again := false
		err = s.beginPartitioned(ctx, func(tx pgx.Tx, c cluster) error {
			if again = s.dictionaryOf(c) != d || d != before && len(manifests) > 0; again {
				return nil
			}
			return f(tx, c, manifests)
		})
		if err != nil || !again {
			return err
		}
	}
	return fmt.Errorf("connections go to different servers: %w", indexer.ErrUnavailable)
}

// words holds the ids of the media types and platforms that some manifests name.
type words struct {
	mediaTypes map[string]int32
	platforms  map[indexer.Platform]int32
}

// mediaType returns the id of a media type or artifact type, nil for "".
func (w words) mediaType(name string) *int32 { return numberOf(w.mediaTypes, name) }

// platform returns the id of a platform, nil for the zero platform.
func (w words) platform(p indexer.Platform) *int32 { return numberOf(w.platforms, p) }

func numberOf[K comparable](numbers map[K]int32, key K) *int32 {
	n, ok := numbers[key]
	if !ok {
		return nil
	}
	return &n
}

// wordTries is how often words looks up new words: twice. If another writer inserts
// the same word at the same moment, the first statement sees neither its own row nor
// the other writer's.
const wordTries = 2

// words looks up everything that manifests name, and inserts words that are new. It
// uses the cache if it can, otherwise one round trip for any number of words.
func (s *Store) words(ctx context.Context, findings []indexer.Finding) (words, error) {
	w := words{mediaTypes: map[string]int32{}, platforms: map[indexer.Platform]int32{}}
	mediaTypes, platforms := wordsOf(findings)
	for range wordTries {
		newTypes, newPlatforms := s.addCached(w, mediaTypes, platforms)
		if len(newTypes)+len(newPlatforms) == 0 {
			return w, nil
		}
		if err := s.learnWords(ctx, w, newTypes, newPlatforms); err != nil {
			return w, pg.Wrap("dictionary", err)
		}
		mediaTypes, platforms = newTypes, newPlatforms
	}
	if missing := w.lacks(mediaTypes, platforms); len(missing) > 0 {
		return w, fmt.Errorf("dictionary: %v were inserted by another transaction and are not visible yet: %w",
			missing, indexer.ErrUnavailable)
	}
	return w, nil
}

// lacks returns the words without an id.
func (w words) lacks(mediaTypes []string, platforms []indexer.Platform) (missing []string) {
	for _, name := range mediaTypes {
		if w.mediaType(name) == nil {
			missing = append(missing, name)
		}
	}
	for _, p := range platforms {
		if w.platform(p) == nil {
			missing = append(missing, p.String())
		}
	}
	return missing
}

// wordsOf returns the words that the manifests of findings name, without duplicates,
// in the order in which rows are inserted.
func wordsOf(findings []indexer.Finding) (mediaTypes []string, platforms []indexer.Platform) {
	types, places := map[string]bool{}, map[indexer.Platform]bool{}
	for _, f := range findings {
		for _, m := range f.Manifests {
			types[mediaTypeOf(m)], types[m.ArtifactType], places[m.Platform] = true, true, true
			for _, e := range m.Entries {
				types[e.MediaType], places[e.Platform] = true, true
			}
		}
	}
	delete(types, "")
	delete(places, indexer.Platform{})
	return slices.Sorted(maps.Keys(types)), slices.SortedFunc(maps.Keys(places), func(a, b indexer.Platform) int {
		return cmp.Or(cmp.Compare(a.OS, b.OS), cmp.Compare(a.Architecture, b.Architecture), cmp.Compare(a.Variant, b.Variant))
	})
}

// addCached adds the cached ids to w and returns the words that are not cached.
func (s *Store) addCached(
	w words, mediaTypes []string, platforms []indexer.Platform,
) (newTypes []string, newPlatforms []indexer.Platform) {
	d := s.dict.Load()
	if d == nil {
		return mediaTypes, platforms
	}
	for _, name := range mediaTypes {
		if n, ok := d.mediaTypes.Load(name); ok {
			w.mediaTypes[name] = n.(int32)
		} else {
			newTypes = append(newTypes, name)
		}
	}
	for _, p := range platforms {
		if n, ok := d.platforms.Load(p); ok {
			w.platforms[p] = n.(int32)
		} else {
			newPlatforms = append(newPlatforms, p)
		}
	}
	return newTypes, newPlatforms
}

// learnPlatforms inserts missing platforms and returns the ids of all.
var learnPlatforms = `
	WITH wanted AS (
		SELECT * FROM ` + pg.Unnest[indexer.Platform]("wanted", 1) + `
	), new AS (
		INSERT INTO platform (os, architecture, variant) SELECT os, architecture, variant FROM wanted
		WHERE NOT EXISTS (SELECT FROM platform p WHERE (p.os, p.architecture, p.variant) = (wanted.os, wanted.architecture, wanted.variant))
		ORDER BY os, architecture, variant ON CONFLICT DO NOTHING RETURNING id, os, architecture, variant
	)
	SELECT id, os, architecture, variant FROM new
	UNION ALL SELECT id, os, architecture, variant FROM platform JOIN wanted USING (os, architecture, variant)`

// learnWords looks up words in the database, inserts the missing ones, and caches
// the ids.
func (s *Store) learnWords(ctx context.Context, w words, mediaTypes []string, platforms []indexer.Platform) error {
	const ofTypes = `
		WITH new AS (
			INSERT INTO media_type (name) SELECT name FROM unnest($1::text[]) AS wanted (name)
			WHERE NOT EXISTS (SELECT FROM media_type m WHERE m.name = wanted.name)
			ORDER BY name ON CONFLICT DO NOTHING RETURNING id, name
		)
		SELECT id, name FROM new UNION ALL SELECT id, name FROM media_type WHERE name = ANY($1)`
	type mediaType struct {
		ID   int32
		Name string
	}
	type platform struct {
		ID                        int32
		OS, Architecture, Variant string
	}
	var types []mediaType
	var places []platform
	batch := &pgx.Batch{}
	if len(mediaTypes) > 0 {
		pg.Queue(batch, &types, ofTypes, mediaTypes)
	}
	if len(platforms) > 0 {
		pg.Queue(batch, &places, learnPlatforms, pg.Arrays(platforms)...)
	}
	return s.pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		c, err := s.clusterOf(ctx, conn.Conn())
		if err != nil {
			return err
		}
		if err := conn.SendBatch(ctx, batch).Close(); err != nil {
			return err
		}
		d := s.dictionaryOf(c)
		for _, t := range types {
			w.mediaTypes[t.Name] = t.ID
			d.remember(&d.mediaTypes, t.Name, t.ID)
		}
		for _, p := range places {
			key := indexer.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}
			w.platforms[key] = p.ID
			d.remember(&d.platforms, key, p.ID)
		}
		return nil
	})
}

// maxRemembered is the maximum number of words in the cache: 20,000, about 4 MB.
// Registries use a few hundred. Words that are not cached are looked up with one
// statement for each batch.
const maxRemembered = 20_000

func (d *dictionary) remember(in *sync.Map, key any, number int32) {
	if d.size.Load() >= maxRemembered {
		return
	}
	if _, known := in.LoadOrStore(key, number); !known {
		d.size.Add(1)
	}
}
