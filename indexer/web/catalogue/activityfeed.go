package catalogue

import (
	"crypto/sha256"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web/answer"
)

// feedSize is how many moves the feed has: 100, some 60 kB, a tenth of that compressed.
// Feed readers ask every quarter of an hour or so. A client that must not miss a move
// of a busier registry uses /api/v1/history.
const feedSize = 100

// An atomFeed is an Atom feed (RFC 4287).
type atomFeed struct {
	XMLName xml.Name    `xml:"http://www.w3.org/2005/Atom feed"`
	ID      string      `xml:"id"`
	Title   string      `xml:"title"`
	Updated string      `xml:"updated"`
	Author  string      `xml:"author>name"`
	Links   []atomLink  `xml:"link"`
	Entries []atomEntry `xml:"entry"`
}

type atomLink struct {
	Rel  string `xml:"rel,attr"`
	Type string `xml:"type,attr"`
	Href string `xml:"href,attr"`
}

type atomEntry struct {
	ID      string   `xml:"id"`
	Title   string   `xml:"title"`
	Updated string   `xml:"updated"`
	Link    atomLink `xml:"link"`
	Summary string   `xml:"summary"`
}

// ActivityFeed serves the latest moves as an Atom feed (RFC 4287).
func (s *Catalogue) ActivityFeed(w http.ResponseWriter, r *http.Request) error {
	repository, _, err := activityAsked(r)
	if err != nil {
		return err
	}
	as := answer.Form{ContentType: "application/atom+xml; charset=utf-8", MaxAge: s.config.MaxAge, Gzip: true}
	as.Headers = func(h http.Header) { // inline: some browsers show a feed
		h.Set("Content-Disposition", `inline; filename="`+answer.FileName(".atom", "activity", repository)+`"`)
	}
	return s.answerer.Answer(w, r, as, func(b answer.Book, out io.Writer) error {
		moves, err := b.History(r.Context(), repository, "", 0, feedSize)
		if err != nil {
			return err
		}
		body, err := xml.MarshalIndent(feedOf(moves, repository, s.config.PublicURL), "", " ")
		if err != nil {
			return err
		}
		_, err = out.Write(answer.Harmless([]byte(xml.Header + string(body) + "\n")))
		return err
	})
}

// feedOf returns the feed. Its addresses are absolute if the configuration names our
// host, and relative to the feed otherwise.
func feedOf(moves []indexer.Move, repository, publicURL string) atomFeed {
	base := publicBase(publicURL)
	feed := atomFeed{
		ID: urnOf("feed", publicURL, repository), Title: "Activity", Author: "Portbook",
		Updated: atomTime(time.Unix(0, 0)), // if the feed is empty; the field is required
		Links: []atomLink{
			{"self", "application/atom+xml", base + activityAddress("/activity.atom", repository, 0)},
			{"alternate", "text/html", base + activityAddress("/activity", repository, 0)},
		},
	}
	if repository != "" {
		feed.Title = "Activity of " + repository
	}
	for _, m := range moves {
		feed.Entries = append(feed.Entries, moveEntry(m, base))
	}
	if len(moves) > 0 {
		feed.Updated = feed.Entries[0].Updated
	}
	return feed
}

// moveEntry returns the entry of one move. Its id is a hash of the move's id, tag,
// digests and time: it stays the same if the catalogue gets another address, and no two
// moves have the same id.
func moveEntry(m indexer.Move, base string) atomEntry {
	reference := m.Repository + ":" + m.Tag
	at := (&url.URL{Path: "/r/" + reference}).EscapedPath()
	var summary string
	switch whatOf(m) {
	case "deleted":
		at = activityAddress("/activity", m.Repository, 0) // the tag has no page any more, and the repository may have none
		summary = "The tag pointed to " + m.From.String()
	case "moved":
		summary = "The tag moved from " + m.From.String() + " to " + m.To.String()
	default:
		summary = "The tag points to " + m.To.String()
	}
	return atomEntry{
		ID: urnOf("move", fmt.Sprint(m.ID), m.Repository, m.Tag, m.From.String(), m.To.String(),
			m.SeenAt.UTC().Format(time.RFC3339Nano)),
		Title:   reference + " " + whatOf(m),
		Updated: atomTime(m.SeenAt),
		Link:    atomLink{"alternate", "text/html", base + at},
		Summary: summary + ", seen by " + seenBy(m) + ".",
	}
}

// seenBy says how we learned of a move.
func seenBy(m indexer.Move) string {
	if m.SeenBy == indexer.SeenByEvent {
		return "an event"
	}
	return "a scan"
}

func atomTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

// urnOf returns a URN for parts, as a UUID of version 8 (RFC 9562).
func urnOf(parts ...string) string {
	u := sha256.Sum256([]byte("portbook\x00" + strings.Join(parts, "\x00")))
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:16])
}

// publicBase returns the scheme and host of our addresses, "" if the configuration does
// not name our host.
func publicBase(publicURL string) string {
	u, err := url.Parse(publicURL)
	if err != nil || u.Host == "" {
		return ""
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host}).String()
}
