package imports

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
)

const (
	// d1Page is how many rows are read at once: 1,000.
	d1Page = 1000
	// d1Answer limits an answer: 16 MiB, which is 16 KiB a row.
	d1Answer = 16 << 20
	// d1Time limits one request: 60 s.
	d1Time = 60 * time.Second
	// d1Tries is how often a request is sent that fails with 429 or 5xx, or gets no answer. The first
	// pause is d1Pause, and then each is twice as long: in all half a minute.
	d1Tries = 6
	d1Pause = time.Second
)

// A D1Config says which database of Cloudflare D1 has the data of a registry of Deploys.app.
type D1Config struct {
	API               string // https://api.cloudflare.com/client/v4
	Account, Database string
	Token             string
	// Keep keeps times, and returns how many are new.
	Keep func(context.Context, []indexer.ImportedTime) (int, error)
	// Progress is called after each page; nil: nobody wants to know.
	Progress func(table string, rows int)
	// Pause is the first pause after a failure; 0: d1Pause.
	Pause time.Duration
}

// A D1Table counts what was read of a table.
type D1Table struct {
	Name  string
	Rows  int
	Fresh int // times that were not known
}

// d1Tables are the tables in the order in which they depend on one another, with the columns that
// order their rows. Nothing is kept of blobs: the registry itself says which there are, and nobody
// asks when they were uploaded. They are read so that their number can be compared.
var d1Tables = []struct{ name, order string }{
	{"repositories", "name"}, {"manifests", "repository, digest"}, {"tags", "repository, tag"},
	{"blobs", "repository, digest"},
}

// D1 reads the times of creation from a database of Cloudflare D1, which a scan of the registry
// cannot tell. It may run again at any time. The counts are those until an error.
func D1(ctx context.Context, c D1Config) (counts []D1Table, err error) {
	for _, t := range d1Tables {
		count := D1Table{Name: t.name}
		for {
			rows, err := c.page(ctx, t.name, t.order, count.Rows)
			if err != nil {
				return append(counts, count), fmt.Errorf("%s, rows from %d: %w", t.name, count.Rows, err)
			}
			fresh, err := c.keep(ctx, t.name, rows)
			if err != nil {
				return append(counts, count), fmt.Errorf("%s, rows from %d: %w", t.name, count.Rows, err)
			}
			count.Rows, count.Fresh = count.Rows+len(rows), count.Fresh+fresh
			if c.Progress != nil {
				c.Progress(t.name, count.Rows)
			}
			if len(rows) < d1Page {
				break
			}
		}
		counts = append(counts, count)
	}
	return counts, nil
}

// A d1Row is a row of one of the tables.
type d1Row struct {
	Name       string `json:"name"` // of a repository
	Repository string `json:"repository"`
	Tag        string `json:"tag"`
	Digest     string `json:"digest"`
	CreatedAt  d1At   `json:"created_at"`
}

// A d1At is a time as SQLite may have it: text, or seconds or milliseconds since 1970.
type d1At struct{ time.Time }

// UnmarshalJSON implements json.Unmarshaler.
func (a *d1At) UnmarshalJSON(text []byte) error {
	var number float64
	if json.Unmarshal(text, &number) == nil {
		if number > 1e11 { // in seconds that is the year 5138
			number /= 1000
		}
		a.Time = time.UnixMilli(int64(number * 1000))
		return nil
	}
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	layouts := []string{time.RFC3339Nano, "2006-01-02 15:04:05.999999999Z07:00", time.DateTime, time.DateOnly}
	for _, layout := range layouts {
		if at, err := time.Parse(layout, s); err == nil {
			a.Time = at
			return nil
		}
	}
	return fmt.Errorf("%.40q is not a time", s)
}

// keep keeps the times of rows.
func (c D1Config) keep(ctx context.Context, table string, rows []d1Row) (int, error) {
	if table == "blobs" {
		return 0, nil
	}
	var times []indexer.ImportedTime
	for _, r := range rows {
		t, err := r.time(table)
		if err != nil {
			return 0, err
		}
		times = append(times, t)
	}
	if len(times) == 0 {
		return 0, nil
	}
	return c.Keep(ctx, times)
}

// time returns what a row says.
func (r d1Row) time(table string) (t indexer.ImportedTime, err error) {
	t = indexer.ImportedTime{Repository: r.Repository, CreatedAt: r.CreatedAt.Time}
	if table == "repositories" {
		t.Repository = r.Name
	} else if t.Digest, err = indexer.ParseDigest(r.Digest); err != nil {
		return t, err
	}
	if table == "tags" {
		t.Tag = r.Tag
	}
	switch {
	case !indexer.IsRepository(t.Repository):
		return t, indexer.InvalidRepository(t.Repository)
	case table == "tags" && !indexer.IsTag(t.Tag):
		return t, indexer.InvalidTag(t.Tag)
	case t.CreatedAt.IsZero():
		return t, errors.New("a row has no created_at")
	}
	return t, nil
}

// d1Error is an error of a request that may be sent again.
type d1Error struct{ error }

// page reads rows of a table.
func (c D1Config) page(ctx context.Context, table, order string, offset int) (rows []d1Row, err error) {
	pause := c.Pause
	if pause == 0 {
		pause = d1Pause
	}
	for try := 1; ; try++ {
		rows, err = c.ask(ctx, fmt.Sprintf("SELECT * FROM %s ORDER BY %s LIMIT ? OFFSET ?", table, order), d1Page, offset)
		var again d1Error
		if err == nil || !errors.As(err, &again) || try == d1Tries {
			return rows, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
			pause *= 2
		}
	}
}

// ask sends one query.
func (c D1Config) ask(ctx context.Context, sql string, params ...any) ([]d1Row, error) {
	ctx, cancel := context.WithTimeout(ctx, d1Time)
	defer cancel()
	body, err := json.Marshal(map[string]any{"sql": sql, "params": params})
	if err != nil {
		return nil, err
	}
	address := strings.TrimRight(c.API, "/") + "/accounts/" + url.PathEscape(c.Account) + "/d1/database/" +
		url.PathEscape(c.Database) + "/query"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("the address of the API is not valid")
	}
	req.Header.Set("Authorization", "Bearer "+c.Token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, d1Error{err}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, d1Answer+1))
	switch {
	case err != nil:
		return nil, d1Error{err}
	case len(text) > d1Answer:
		return nil, fmt.Errorf("an answer has more than %d bytes", d1Answer)
	}
	return d1Rows(resp.StatusCode, text)
}

// d1Rows returns the rows in an answer.
func d1Rows(status int, text []byte) ([]d1Row, error) {
	var answer struct {
		Success bool
		Errors  []struct {
			Code    int
			Message string
		}
		Result []struct {
			Success bool
			Results []d1Row
		}
	}
	err := json.Unmarshal(text, &answer)
	if err != nil && status == http.StatusOK {
		return nil, fmt.Errorf("the answer is not that of D1: %w", err)
	}
	if status == http.StatusOK && answer.Success && len(answer.Result) == 1 && answer.Result[0].Success {
		return answer.Result[0].Results, nil
	}
	said := ""
	for _, e := range answer.Errors {
		said += fmt.Sprintf(": %d %.200s", e.Code, indexer.CleanText(e.Message))
	}
	err = fmt.Errorf("D1 answered %d %s%s", status, http.StatusText(status), said)
	if status == http.StatusTooManyRequests || status >= http.StatusInternalServerError {
		return nil, d1Error{err}
	}
	return nil, err
}
