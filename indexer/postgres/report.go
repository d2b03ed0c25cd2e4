package postgres

import (
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// Reports says how to record the pushes and deletions that the registry reports.
type Reports string

const (
	// NoReports are not recorded.
	NoReports Reports = ""
	// ClaimedReports are recorded, and the names in them are what clients say.
	ClaimedReports Reports = "claimed"
	// ProvedReports are recorded, and the names in them are of tokens that we have signed.
	ProvedReports Reports = "proved"
)

// queueReports adds the events of pushes and deletions to audit. What we do ourselves has a
// record of who asked us for it.
func queueReports(batch *pgx.Batch, how Reports, events []indexer.Event) {
	var rows []newRecord
	for _, e := range events {
		if r := reportOf(how, e, time.Now()); how == ClaimedReports || r.Actor.Name != access.Ourselves {
			row := newRecordOf(r)
			if r.Event == access.ImageDelete {
				row.Digest = pg.DigestBytes(e.Digest)
			}
			rows = append(rows, row)
		}
	}
	if how != NoReports && len(rows) > 0 {
		batch.Queue(addRecords, pg.Arrays(rows)...)
	}
}

// reportOf returns the record of an event.
func reportOf(how Reports, e indexer.Event, now time.Time) access.Record {
	r := access.Record{Event: access.ImagePush, Repository: e.Repository, Request: e.Request, Reported: e.At}
	if e.At.Before(now.Add(-eventAge)) || e.At.After(now.Add(eventAhead)) {
		r.Reported = now // as in the table of events
	}
	if e.Tag != "" {
		r.Target, r.Detail = e.Repository+":"+e.Tag, e.Digest.String()
	} else {
		r.Target = e.Repository + "@" + e.Digest.String()
	}
	switch {
	case e.Action == "delete" && e.Tag != "":
		r.Event = access.TagDelete
	case e.Action == "delete":
		r.Event = access.ImageDelete
	}
	r.Actor.Source = e.Source
	if how == ClaimedReports {
		r.Actor.Claimed = e.Actor
		return r
	}
	r.Actor.Name, r.Actor.Token = access.ParseActor(e.Actor)
	return r
}
