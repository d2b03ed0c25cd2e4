package api

import (
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web/answer"
)

const (
	// defaultDays and maxUsageDays are the number of days of usage in an answer: 90, and 1,000,
	// some 100 KB.
	defaultDays  = 90
	maxUsageDays = 1000
)

type usageAnswer struct {
	Repository   string           `json:"repository"`
	Tag          string           `json:"tag,omitempty"`
	Digest       string           `json:"digest,omitempty"`
	Pulls        int64            `json:"pulls" doc:"pulls that were counted: GETs of a manifest by clients that are no scanners. A tag has those by its name, a manifest those by any tag or its digest, and a repository all but those of the manifests that an index lists"`
	ScannerPulls int64            `json:"scanner_pulls" doc:"pulls of scanners, by usage.scanners, which pulls and pulled_at do not count"`
	Pushes       int64            `json:"pushes" doc:"pushes of tags that were counted"`
	PulledAt     answer.Timestamp `json:"pulled_at,omitzero" doc:"the last pull; absent if none was counted"`
	CountedSince answer.Timestamp `json:"counted_since,omitzero" doc:"when counting began: pulls before are unknown. It begins again if no event of a pull arrived for a week. Absent if none has ever arrived, so that nothing is known"`
	CountedUntil answer.Timestamp `json:"counted_until,omitzero" doc:"when the counts of any repository last changed; absent if they never have"`
	HeardAt      answer.Timestamp `json:"heard_at,omitzero" doc:"when the last event of any pull arrived, a minute less exact"`
	StaleSince   answer.Timestamp `json:"stale_since,omitzero" doc:"absent if the counts are up to date but for some minutes; else pulls that arrived since then are not yet counted"`
	Days         []usageDay       `json:"days" doc:"the days with a pull or a push, in order, up to counted_until"`
}

type usageDay struct {
	Day          string                       `json:"day" doc:"YYYY-MM-DD, in UTC"`
	Pulls        int64                        `json:"pulls"`
	ScannerPulls int64                        `json:"scanner_pulls"`
	Pushes       int64                        `json:"pushes"`
	By           map[indexer.ClientKind]int64 `json:"by" doc:"pulls by the kind of client: anonymous, person, token or workload"`
}

// usage tells how often a repository, or a tag or manifest of it, was pulled. Whether the
// counts are stale depends on this moment, so it must not be cached.
func (s *API) usage(w http.ResponseWriter, r asked) error {
	q, err := r.usageQuery()
	if err != nil {
		return err
	}
	var u indexer.Usage
	var fresh indexer.Freshness
	err = s.answerer.ReadSince(r.Request, func(b answer.Book, f indexer.Freshness) (err error) {
		fresh = f
		u, err = b.Usage(r.Context(), q)
		return err
	})
	if err != nil {
		return err
	}
	answer.SetFreshness(w.Header(), fresh)
	return answer.WriteJSON(w, http.StatusOK, answerUsage(q, u))
}

// usageQuery returns what is asked for.
func (r asked) usageQuery() (q indexer.UsageQuery, err error) {
	if q.Repository, err = r.repository(); err != nil {
		return q, err
	}
	q.Tag, q.Days = r.values.Get("tag"), r.number("days", defaultDays)
	d := r.values.Get("digest")
	switch {
	case q.Tag != "" && d != "":
		return q, answer.Invalid("digest", "is given with tag: ask for one of them")
	case q.Tag != "" && !indexer.IsTag(q.Tag):
		return q, answer.Invalid("tag", "is %.64q, which is not a tag", q.Tag)
	case d != "":
		q.Digest, err = indexer.ParseDigest(d)
	}
	return q, err
}

func answerUsage(q indexer.UsageQuery, u indexer.Usage) usageAnswer {
	at := func(t time.Time) answer.Timestamp { return answer.Timestamp{Time: t} }
	return usageAnswer{
		Repository: q.Repository, Tag: q.Tag, Digest: q.Digest.String(),
		Pulls: u.Pulls, ScannerPulls: u.ScannerPulls, Pushes: u.Pushes, PulledAt: at(u.PulledAt),
		CountedSince: at(u.Since), CountedUntil: at(u.Until), HeardAt: at(u.HeardAt), StaleSince: at(u.StaleSince),
		Days: answer.Map(u.Days, func(d indexer.UsageDay) usageDay {
			by := d.By
			if by == nil {
				by = map[indexer.ClientKind]int64{}
			}
			return usageDay{d.Day.Format(time.DateOnly), d.Pulls, d.ScannerPulls, d.Pushes, by}
		}),
	}
}

// lastPulls reads the pulls of tags and of manifests.
func lastPulls(
	r asked, b answer.Book, repository string, tags []string, digests []digest.Digest,
) (indexer.LastPulls, error) {
	if len(tags)+len(digests) == 0 {
		return indexer.LastPulls{}, nil
	}
	return b.LastPulls(r.Context(), repository, tags, digests)
}
