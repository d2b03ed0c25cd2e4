package postgres

import (
	"context"
	"strings"

	"github.com/portbook/portbook/indexer"
)

const (
	// maxSession is the number of bytes of an application name that PostgreSQL keeps
	// (NAMEDATALEN - 1).
	maxSession = 63
	// maxApplication is the number of bytes of the program's own application name in
	// that of a request. It leaves 32 for the id, the length of $request_id of nginx.
	maxApplication = 30
)

// session returns the application name that shows the request of ctx, nil if ctx has no
// request.
func (s *Store) session(ctx context.Context) *string {
	id := indexer.RequestOf(ctx)
	if id == "" {
		return nil
	}
	name := sessionOf(s.application, id)
	return &name
}

// named adds to a command that begins a transaction one that shows the request of ctx
// in application_name until the transaction ends. Both are sent in one round trip.
//
// It is not a SET, because before PostgreSQL 18 pg_stat_statements would keep an entry
// for each id. A SELECT has one entry for all values, and takes 14 µs instead of 4.
func (s *Store) named(ctx context.Context, begin string) string {
	session := s.session(ctx)
	if session == nil {
		return begin
	}
	return begin + "; SELECT set_config('application_name', '" + *session + "', true)"
}

// sessionOf returns the application name of a request. It has no characters that must
// be quoted in a statement.
func sessionOf(application, id string) string {
	name := unquoted(application[:min(len(application), maxApplication)] + " " + id)
	return name[:min(len(name), maxSession)]
}

// unquoted replaces all bytes but letters, digits, spaces and some punctuation by a
// question mark, as PostgreSQL does in application names with bytes beyond ASCII.
func unquoted(s string) string {
	b := []byte(s)
	for i, c := range b {
		if strings.IndexByte(unquotedCharacters, c) < 0 {
			b[i] = '?'
		}
	}
	return string(b)
}

const unquotedCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 ._:@/+=-"
