package answer

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/portbook/portbook/indexer"
)

// pageLayouts are the forms of a time in the address of a page: those of the API, of an
// <input type="datetime-local"> and of a day. Without a zone it is UTC.
var pageLayouts = []string{time.RFC3339, "2006-01-02T15:04", "2006-01-02T15:04:05", time.DateOnly}

// ParseAt parses the parameter "at" of the API. It returns the zero time for "", and an error
// for a time in the future or before 1970.
func ParseAt(text string) (time.Time, error) {
	return parseAt(text, pageLayouts[:1], "write a time such as 2026-01-31T12:00:00Z, and a + as %2B")
}

// ParsePageAt is ParseAt for a page, where people write a day too: that is its beginning.
func ParsePageAt(text string) (time.Time, error) {
	return parseAt(text, pageLayouts, "write a day such as 2026-01-31, or a time such as 2026-01-31T12:00:00Z")
}

func parseAt(text string, layouts []string, remedy string) (at time.Time, err error) {
	if text == "" {
		return at, nil
	}
	for _, layout := range layouts {
		if at, err = time.Parse(layout, text); err == nil {
			break
		}
	}
	switch {
	case err != nil:
		return at, Invalid("at", "is %.64q: %s", text, remedy)
	case at.After(time.Now()):
		return at, Invalid("at", "is %.64q, which is in the future", text)
	case at.Before(time.Unix(0, 0)):
		return at, Invalid("at", "is %.64q, which is before 1970", text)
	}
	return at.UTC(), nil
}

// KnownAt returns an error if what was there at a time is unknown, because the history of
// tags begins later. It returns nil for the zero time, which is now.
func KnownAt(ctx context.Context, b Book, at time.Time) error {
	if at.IsZero() {
		return nil
	}
	begins, err := b.HistoryBegins(ctx)
	switch {
	case err != nil:
		return err
	case begins.IsZero():
		return Refuse(http.StatusNotFound, "nothing is known of the past yet: the history of tags has no moves")
	case at.Before(begins):
		return Refuse(http.StatusNotFound, "what was there at %s is unknown: the history of tags begins at %s",
			at.Format(time.RFC3339), begins.UTC().Format(time.RFC3339))
	}
	return nil
}

// DigestAt returns the digest that a tag showed at a time. It returns ErrNotFound if there was
// no such tag.
func DigestAt(ctx context.Context, b Book, ref indexer.Reference, at time.Time) (indexer.Tag, error) {
	tags, err := b.TagsAt(ctx, ref.Repository, at, "", indexer.TextBefore(ref.Tag), 1)
	if err == nil && (len(tags) == 0 || tags[0].Name != ref.Tag || tags[0].Digest == "") {
		err = Refuse(http.StatusNotFound, "there was no tag %q in %q at %s, as far as the history of tags shows",
			ref.Tag, ref.Repository, at.Format(time.RFC3339))
	}
	if err != nil {
		return indexer.Tag{}, err
	}
	return tags[0], nil
}

// ManifestAt returns a manifest by tag or digest as of a time, with the tags that showed it
// then. It says so if the book no longer has the manifest.
func ManifestAt(
	ctx context.Context, b Book, ref indexer.Reference, at time.Time,
) (m indexer.Manifest, tags []string, err error) {
	if err := KnownAt(ctx, b, at); err != nil {
		return m, nil, err
	}
	if ref.Digest == "" {
		t, err := DigestAt(ctx, b, ref, at)
		if err != nil {
			return m, nil, err
		}
		ref.Digest = t.Digest
	}
	byDigest := indexer.Reference{Repository: ref.Repository, Digest: ref.Digest}
	shown, err := b.TagsAt(ctx, ref.Repository, at, ref.Digest, "", MaxShown)
	if err != nil {
		return m, nil, err
	}
	tags = Map(shown, func(t indexer.Tag) string { return t.Name })
	if m, err = b.Manifest(ctx, byDigest); err == nil && len(tags) == 0 && m.SeenAt.After(at) {
		err = Refuse(http.StatusNotFound, "%s was first seen at %s, later than %s", byDigest,
			m.SeenAt.UTC().Format(time.RFC3339), at.Format(time.RFC3339))
	}
	if len(tags) > 0 && errors.Is(err, indexer.ErrNotFound) {
		err = Refuse(http.StatusNotFound, "the tag %s showed %s at %s, but the book no longer has that manifest",
			tags[0], ref.Digest, at.Format(time.RFC3339))
	}
	return m, tags, err
}
