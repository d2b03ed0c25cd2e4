package imports

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
)

const (
	// maxRecord is the maximum length of a line of a dump: 32 MiB. A manifest has at most 4 MiB, and
	// so has its config; both are written longer.
	maxRecord = 32 << 20
	// importBatch is how many records are stored at once: 1,000.
	importBatch = 1000
)

// A HistoryConfig says where the content of a dump goes.
type HistoryConfig struct {
	// Times keeps the times at which the older book first saw something, and returns how many are new.
	Times func(context.Context, []indexer.ImportedTime) (int, error)
	// Moves keeps all moves, or none if next returns an error: see postgres.Store.ImportMoves.
	Moves func(ctx context.Context, next func() ([]indexer.Move, error)) (int, error)
}

// A record is a line of a dump, as far as it matters here.
type record struct {
	Type     string              `json:"type"`
	Dump     *struct{ Form int } `json:"dump"`
	Manifest *struct {
		Repository, Digest string
		SeenAt             time.Time `json:"seen_at"`
	} `json:"manifest"`
	Tag *struct {
		Repository, Name, Digest string
		MovedAt                  time.Time `json:"moved_at"`
	} `json:"tag"`
	Move *struct {
		ID                        int64
		Repository, Tag, From, To string
		SeenAt                    time.Time `json:"seen_at"`
		SeenBy                    string    `json:"seen_by"`
	} `json:"move"`
	Records *int `json:"records"`
}

// History takes over what only an older book knows, from its dump (GET /api/v1/dump): the moves of
// tags, and when it first saw manifests and what tags show. A dump that was cut off is refused, and
// then no move of it is kept.
func History(ctx context.Context, dump io.Reader, c HistoryConfig) (moves, times int, err error) {
	r := &dumpReader{ctx: ctx, config: c, lines: bufio.NewScanner(dump)}
	r.lines.Buffer(make([]byte, 0, 64<<10), maxRecord)
	if err := r.begin(); err != nil {
		return 0, 0, err
	}
	first, err := r.untilMoves()
	if err != nil || first == nil {
		return 0, r.fresh, err
	}
	moves, err = c.Moves(ctx, func() ([]indexer.Move, error) { return r.moves(&first) })
	return moves, r.fresh, err
}

// A dumpReader reads a dump.
type dumpReader struct {
	ctx    context.Context
	config HistoryConfig
	lines  *bufio.Scanner
	line   int // number of the line
	count  int // records
	ended  bool
	times  []indexer.ImportedTime
	fresh  int
}

// read reads the next record; nil after the last.
func (r *dumpReader) read() (*record, error) {
	for !r.ended && r.lines.Scan() {
		r.line++
		var x record
		if err := json.Unmarshal(r.lines.Bytes(), &x); err != nil {
			return nil, fmt.Errorf("line %d is not a record of a dump: %w", r.line, err)
		}
		switch x.Type {
		case "after":
			continue
		case "end":
			if x.Records == nil || *x.Records != r.count {
				return nil, fmt.Errorf("the dump has %d records, and says at its end that it has others: is a part missing?",
					r.count)
			}
			r.ended = true
			return nil, nil
		case "repository", "manifest", "tag", "move":
			r.count++
		}
		return &x, nil
	}
	if err := r.lines.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", r.line+1, err)
	}
	if !r.ended {
		return nil, errors.New("the dump was cut off: it has no record of the type end")
	}
	return nil, nil
}

// begin reads the first record.
func (r *dumpReader) begin() error {
	x, err := r.read()
	switch {
	case err != nil:
		return err
	case x == nil || x.Type != "dump" || x.Dump == nil:
		return errors.New("the file is not a dump of Portbook: its first line has not the type dump")
	case x.Dump.Form != 1:
		return fmt.Errorf("the dump has the form %d: only form 1 is known here", x.Dump.Form)
	}
	return nil
}

// untilMoves keeps times until the first move, which it returns; nil if there is none.
func (r *dumpReader) untilMoves() (*indexer.Move, error) {
	for {
		x, err := r.read()
		if err != nil {
			return nil, err
		}
		if x == nil || x.Move != nil {
			if err := r.keep(0); err != nil || x == nil {
				return nil, err
			}
			return r.moveOf(x)
		}
		if err := r.add(x); err != nil {
			return nil, fmt.Errorf("line %d: %w", r.line, err)
		}
		if err := r.keep(importBatch); err != nil {
			return nil, err
		}
	}
}

// add remembers the time that a record has.
func (r *dumpReader) add(x *record) (err error) {
	var t indexer.ImportedTime
	var d string
	switch {
	case x.Manifest != nil:
		t.Repository, d, t.CreatedAt = x.Manifest.Repository, x.Manifest.Digest, x.Manifest.SeenAt
	case x.Tag != nil && x.Tag.Digest != "" && !x.Tag.MovedAt.IsZero():
		t.Repository, t.Tag, d, t.CreatedAt = x.Tag.Repository, x.Tag.Name, x.Tag.Digest, x.Tag.MovedAt
		if !indexer.IsTag(t.Tag) {
			return indexer.InvalidTag(t.Tag)
		}
	default:
		return nil
	}
	if !indexer.IsRepository(t.Repository) {
		return indexer.InvalidRepository(t.Repository)
	}
	if t.Digest, err = indexer.ParseDigest(d); err != nil {
		return err
	}
	r.times = append(r.times, t)
	return nil
}

// keep keeps the remembered times if there are at least so many.
func (r *dumpReader) keep(atLeast int) error {
	if len(r.times) < max(atLeast, 1) {
		return nil
	}
	n, err := r.config.Times(r.ctx, r.times)
	r.fresh, r.times = r.fresh+n, nil
	return err
}

// moves returns the next moves, the first one being that which was read already.
func (r *dumpReader) moves(first **indexer.Move) (all []indexer.Move, err error) {
	if *first != nil {
		all, *first = append(all, **first), nil
	}
	for len(all) < importBatch {
		x, err := r.read()
		if err != nil {
			return nil, err
		}
		if x == nil {
			break
		}
		if x.Move == nil {
			continue
		}
		m, err := r.moveOf(x)
		if err != nil {
			return nil, err
		}
		all = append(all, *m)
	}
	return all, nil
}

// moveOf returns the move of a record.
func (r *dumpReader) moveOf(x *record) (*indexer.Move, error) {
	m := indexer.Move{
		ID: x.Move.ID, Repository: x.Move.Repository, Tag: x.Move.Tag,
		SeenAt: x.Move.SeenAt, SeenBy: indexer.SeenBy(x.Move.SeenBy),
	}
	err := errors.New("a move has no time, does not say by what it was seen, or moves nothing")
	switch {
	case !indexer.IsRepository(m.Repository):
		err = indexer.InvalidRepository(m.Repository)
	case !indexer.IsTag(m.Tag):
		err = indexer.InvalidTag(m.Tag)
	case m.SeenAt.IsZero(), m.SeenBy != indexer.SeenByEvent && m.SeenBy != indexer.SeenByScan, x.Move.From == x.Move.To:
	default:
		if m.From, err = optionalDigest(x.Move.From); err == nil {
			m.To, err = optionalDigest(x.Move.To)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("line %d: %w", r.line, err)
	}
	return &m, nil
}

func optionalDigest(s string) (digest.Digest, error) {
	if s == "" {
		return "", nil
	}
	return indexer.ParseDigest(s)
}
