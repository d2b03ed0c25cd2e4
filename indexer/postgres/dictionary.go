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

// A dictionary remembers the numbers of media types and platforms. They are
// written before the transaction that uses them, in one of their own, so that a
// number remembered is a number that exists; one that nothing uses is
// harmless, and they are never deleted. One manifest brings at most some 120 new
// ones (see ingest), less than what its entries take.
//
// That holds for one cluster: after a failover a number may be lost, and mean
// something else when it is given again. Each cluster has a dictionary of its
// own, and a transaction takes numbers of its own cluster alone.
type dictionary struct {
	cluster    cluster
	mediaTypes sync.Map // string -> int32
	platforms  sync.Map // indexer.Platform -> int32
	size       atomic.Int64
}

// dictionaryOf gives the dictionary of a cluster, an empty one if the last was
// of another.
func (s *Store) dictionaryOf(c cluster) *dictionary {
	for {
		d := s.dict.Load()
		if d != nil && d.cluster == c {
			return d
		}
		s.dict.CompareAndSwap(d, &dictionary{cluster: c})
	}
}

// learnTries is how often numbers are looked up for one transaction: twice where
// the process has just begun or the database has failed over. More means that
// two servers take our writes at the same time.
const learnTries = 4

// learn runs f with numbers for the manifests of findings, in a transaction of
// the cluster that they are of.
func (s *Store) learn(ctx context.Context, findings []indexer.Finding, f func(pgx.Tx, cluster, []manifestRow) error) error {
	for range learnTries {
		before := s.dict.Load()
		manifests, err := s.manifestRows(ctx, findings)
		if err != nil {
			return err
		}
		// Every number came from the dictionary of before if that is still the one.
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
	return fmt.Errorf("connections lead to different servers: %w", indexer.ErrUnavailable)
}

// words are the numbers of the media types and platforms that some manifests name.
type words struct {
	mediaTypes map[string]int32
	platforms  map[indexer.Platform]int32
}

// mediaType returns the number of a media type or artifact type, nil for "".
func (w words) mediaType(name string) *int32 { return numberOf(w.mediaTypes, name) }

// platform returns the number of a platform, nil for the zero one.
func (w words) platform(p indexer.Platform) *int32 { return numberOf(w.platforms, p) }

func numberOf[K comparable](numbers map[K]int32, key K) *int32 {
	n, ok := numbers[key]
	if !ok {
		return nil
	}
	return &n
}

// wordTries is how often new words are asked for: twice. If another writer inserts
// the same at the same moment, the first statement sees neither its own row nor
// the other's.
const wordTries = 2

// words looks up all that manifests name, and inserts what nobody named before:
// from memory if it can, else in one round trip, however many they are.
func (s *Store) words(ctx context.Context, findings []indexer.Finding) (words, error) {
	w := words{mediaTypes: map[string]int32{}, platforms: map[indexer.Platform]int32{}}
	mediaTypes, platforms := wordsOf(findings)
	for range wordTries {
		newTypes, newPlatforms := s.remembered(w, mediaTypes, platforms)
		if len(newTypes)+len(newPlatforms) == 0 {
			return w, nil
		}
		if err := s.learnWords(ctx, w, newTypes, newPlatforms); err != nil {
			return w, pg.Wrap("dictionary", err)
		}
		mediaTypes, platforms = newTypes, newPlatforms
	}
	if len(w.lacks(mediaTypes, platforms)) > 0 {
		return w, fmt.Errorf("dictionary: %v were inserted by somebody else, and cannot be seen: %w", w.lacks(mediaTypes, platforms), indexer.ErrUnavailable)
	}
	return w, nil
}

// lacks returns the words that have no number.
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

// wordsOf returns what the manifests of findings name, each once, in order: that
// in which rows are inserted.
func wordsOf(findings []indexer.Finding) (mediaTypes []string, platforms []indexer.Platform) {
	types, places := map[string]bool{}, map[indexer.Platform]bool{}
	for _, f := range findings {
		for _, m := range f.Manifests {
			types[mediaTypeOf(m)], types[indexer.CleanText(m.ArtifactType)], places[m.Platform] = true, true, true
			for _, e := range m.Entries {
				types[indexer.CleanText(e.MediaType)], places[e.Platform] = true, true
			}
		}
	}
	delete(types, "")
	delete(places, indexer.Platform{})
	return slices.Sorted(maps.Keys(types)), slices.SortedFunc(maps.Keys(places), func(a, b indexer.Platform) int {
		return cmp.Or(cmp.Compare(a.OS, b.OS), cmp.Compare(a.Architecture, b.Architecture), cmp.Compare(a.Variant, b.Variant))
	})
}

// remembered adds the numbers that are in memory, and returns the words that are
// not.
func (s *Store) remembered(w words, mediaTypes []string, platforms []indexer.Platform) (newTypes []string, newPlatforms []indexer.Platform) {
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

// learnWords finds the numbers of words in the database, where those that are not
// there are inserted, and remembers them.
func (s *Store) learnWords(ctx context.Context, w words, mediaTypes []string, platforms []indexer.Platform) error {
	const ofTypes = `
		WITH new AS (
			INSERT INTO media_type (name) SELECT name FROM unnest($1::text[]) AS wanted (name)
			WHERE NOT EXISTS (SELECT FROM media_type m WHERE m.name = wanted.name)
			ORDER BY name ON CONFLICT DO NOTHING RETURNING id, name
		)
		SELECT id, name FROM new UNION ALL SELECT id, name FROM media_type WHERE name = ANY($1)`
	const ofPlatforms = `
		WITH wanted AS (
			SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) AS wanted (os, architecture, variant)
		), new AS (
			INSERT INTO platform (os, architecture, variant) SELECT * FROM wanted
			WHERE NOT EXISTS (SELECT FROM platform p WHERE (p.os, p.architecture, p.variant) = (wanted.os, wanted.architecture, wanted.variant))
			ORDER BY os, architecture, variant ON CONFLICT DO NOTHING RETURNING id, os, architecture, variant
		)
		SELECT id, os, architecture, variant FROM new
		UNION ALL SELECT id, os, architecture, variant FROM platform JOIN wanted USING (os, architecture, variant)`
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
		var oss, architectures, variants []string
		for _, p := range platforms {
			oss, architectures, variants = append(oss, p.OS), append(architectures, p.Architecture), append(variants, p.Variant)
		}
		pg.Queue(batch, &places, ofPlatforms, oss, architectures, variants)
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

// maxRemembered is how many words a process keeps in memory: 20,000, some 4 MB.
// Registries use a few hundred. What is not in memory is looked up by one
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
