package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/test/bench/content"
	"github.com/portbook/portbook/test/bench/harness"
)

// A weight is the disk space of a table, with its indexes and out-of-line storage, and
// its number of rows.
type weight struct{ bytes, rows int64 }

// weigh returns the weights of all tables of a database. Partitions are added to their
// table.
func weigh(ctx context.Context, conn *pgx.Conn) (map[string]weight, error) {
	const q = `
		SELECT relname::text,
			COALESCE((SELECT sum(pg_total_relation_size(relid))::bigint FROM pg_partition_tree(c.oid)),
				pg_total_relation_size(c.oid)),
			(xpath('//n/text()', query_to_xml(format('SELECT count(*) AS n FROM %s', c.oid::regclass),
				false, false, '')))[1]::text::bigint
		FROM pg_class c WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition`
	rows, err := conn.Query(ctx, q)
	if err != nil {
		return nil, err
	}
	weights := map[string]weight{}
	var name string
	var w weight
	_, err = pgx.ForEachRow(rows, []any{&name, &w.bytes, &w.rows}, func() error {
		weights[name] = w
		return nil
	})
	return weights, err
}

// sizes reports the disk space of a row of each kind: the growth of a table since it
// was empty, divided by its rows. The catalogue is measured after the first and the
// unchanged scans, before the pushes.
func (b *bench) sizes(ctx context.Context, s *harness.Section) error {
	conn, err := b.newDatabase(ctx, "empty")
	if err != nil {
		return err
	}
	empty, err := weigh(ctx, conn)
	if err != nil {
		return err
	}
	if err := b.dropDatabase(ctx, conn); err != nil {
		return err
	}
	after, err := weigh(ctx, b.book)
	if err != nil {
		return err
	}
	per := func(name string, now map[string]weight, tables ...string) { // a row of the first table
		var bytes int64
		for _, table := range tables {
			bytes += now[table].bytes - empty[table].bytes
		}
		if rows := now[tables[0]].rows; rows > 0 {
			name = fmt.Sprintf("%s (%s)", name, strings.Join(tables, ", "))
			s.Add(harness.Figure{Name: name, Value: float64(bytes) / float64(rows), Unit: "bytes"})
		}
	}
	c := b.catalogue
	per("a repository", c, "repository", "repository_search")
	per("a tag", c, "tag")
	per("a manifest", c, "manifest", "manifest_body", "index_entry", "referrer")
	per("a search row of a tagged manifest", c, "image_search")
	per("a blob", c, "blob")
	per("a move of a tag", c, "tag_history")
	per("an event", after, "event")

	var all, before int64
	for table := range empty {
		all, before = all+c[table].bytes, before+empty[table].bytes
	}
	s.Add(harness.Figure{Name: "everything, after the scans", Value: float64(all) / 1e6, Unit: "MB"})
	tags := float64(max(c["tag"].rows, 1))
	s.Add(harness.Figure{Name: "everything, per tag", Value: float64(all-before) / tags, Unit: "bytes"})
	s.Add(harness.Figure{Name: "empty tables", Value: float64(before) / 1e6, Unit: "MB"})
	s.Note("%d repositories, %d tags, %d manifests, %d blobs, %d moves; %d events",
		c["repository"].rows, c["tag"].rows, c["manifest"].rows, c["blob"].rows, c["tag_history"].rows, after["event"].rows)
	return b.shape(ctx, s)
}

// shape describes the images whose sizes were measured.
func (b *bench) shape(ctx context.Context, s *harness.Section) error {
	const q = `
		SELECT avg(octet_length(b.body))::float8, COALESCE(avg(octet_length(b.config::text)), 0)::float8,
			COALESCE(avg((SELECT count(*) FROM jsonb_object_keys(m.labels))) FILTER (WHERE m.labels IS NOT NULL), 0)::float8,
			COALESCE(avg(cardinality(m.layer_ids)) FILTER (WHERE m.kind = 'image'), 0)::float8
		FROM manifest m JOIN manifest_body b ON b.repository_id = m.repository_id AND b.manifest_id = m.id`
	var body, config, labels, layers float64
	if err := b.book.QueryRow(ctx, q).Scan(&body, &config, &labels, &layers); err != nil {
		return err
	}
	s.Note("on average: a manifest of %.0f bytes, a config of %.0f with %.1f labels, %.1f layers; "+
		"one tag in %d is an index of two", body, config, labels, layers, content.IndexEvery)
	return nil
}
