package clients

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web/answer"
)

const (
	// maxAssertion is the most bytes of a request to /assert: 1 MiB. Tests use it; a
	// page of labels to compare is far smaller.
	maxAssertion = 1 << 20
	// maxAssertTimeout is the longest that /assert waits: 60 s.
	maxAssertTimeout = 60 * time.Second
)

// An assertRequest checks what the index holds.
type assertRequest struct {
	Query      map[string]oneOrMore // parameters of /index/static
	Assertions []assertion
}

type assertion struct {
	Type string // contains or not-contains
	Test json.RawMessage
}

type assertReply struct {
	Success  bool
	Results  []flatpakRepository
	Failures []assertion

	version indexer.Version // of the catalogue when Results were read
}

// oneOrMore is a string or a list of strings.
type oneOrMore []string

func (o *oneOrMore) UnmarshalJSON(b []byte) error {
	var one string
	if err := json.Unmarshal(b, &one); err == nil {
		*o = oneOrMore{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(o))
}

// Assert answers 200 as soon as every assertion holds for the results of the query, and
// 400 if that does not happen within ?timeout seconds. In both cases the body has the
// last results and the assertions that fail, and the header has their version of the
// catalogue.
func (s *Clients) Assert(w http.ResponseWriter, r *http.Request) error {
	if !s.config.Assertions {
		return answer.ErrNothingHere
	}
	wait, err := assertTimeout(r)
	if err != nil {
		return err
	}
	answer.SetDeadline(w, wait+answer.Timeout)
	q, assertions, err := readAssertions(http.MaxBytesReader(w, r.Body, maxAssertion))
	if err != nil {
		return err
	}
	reply, err := s.waitFor(r, q, assertions, time.Now().Add(wait))
	if err != nil {
		return err
	}
	w.Header().Set(answer.VersionField, reply.version.String())
	code := http.StatusOK
	if !reply.Success {
		// Not a bad request, but curl --fail in a test must fail.
		code = http.StatusBadRequest
	}
	return answer.WriteJSON(w, code, reply)
}

func assertTimeout(r *http.Request) (time.Duration, error) {
	v := r.URL.Query().Get("timeout")
	if v == "" {
		return 0, nil
	}
	seconds, err := strconv.ParseUint(v, 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, answer.Invalid("timeout", "is %.64q: write a number of seconds", v)
	}
	return time.Duration(min(seconds, uint64(maxAssertTimeout/time.Second))) * time.Second, nil
}

// readAssertions is strict where /index is not: a mistake in a test must not make it
// pass.
func readAssertions(body io.Reader) (query.Images, []assertion, error) {
	var req assertRequest
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	if err := d.Decode(&req); err != nil {
		return nil, nil, answer.Invalid("request", "%s", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, nil, answer.Invalid("request", "has more than one JSON value: send one")
	}
	for _, a := range req.Assertions {
		if a.Type != "contains" && a.Type != "not-contains" {
			return nil, nil, answer.Invalid("assertion", "has type %q: write contains or not-contains", answer.Cut(a.Type, 64))
		}
		if len(a.Test) == 0 {
			return nil, nil, answer.Invalid("assertion", "has no Test: add one")
		}
	}
	parameters := url.Values{}
	for k, v := range req.Query {
		parameters[k] = v
	}
	q, unknown, err := imageQuery(parameters)
	if err == nil && len(unknown) > 0 {
		err = answer.Invalid("Query", "has an unknown parameter %q", answer.Cut(unknown[0], 64))
	}
	return q, req.Assertions, err
}

// waitFor checks the results of q in each new version of the catalogue until the
// assertions hold or end is reached. Between two checks it holds no database
// connection; each check has the time budget of a request.
func (s *Clients) waitFor(r *http.Request, q query.Images, assertions []assertion, end time.Time) (assertReply, error) {
	follower, ok := s.answerer.FollowSoon(r)
	if !ok {
		return assertReply{}, answer.Refuse(http.StatusServiceUnavailable,
			"too many requests wait for a version, from your address or in all: try again in a second")
	}
	defer follower.Leave()
	ctx, cancel := context.WithDeadline(r.Context(), end)
	defer cancel()
	var known indexer.Version
	var reply assertReply
	for {
		// One more check after the end reports the final state.
		err := s.check(r, q, assertions, &reply)
		if err != nil || reply.Success || ctx.Err() != nil {
			return reply, err
		}
		// The first version may be the one that was checked or the one before; then the
		// check is repeated and finds the same.
		for {
			if known, err = follower.Next(ctx, known); err != nil || known != reply.version {
				break
			}
		}
	}
}

// check checks assertions on the current version, unless reply has that version
// already.
func (s *Clients) check(r *http.Request, q query.Images, assertions []assertion, reply *assertReply) error {
	ctx, cancel := context.WithTimeout(r.Context(), answer.Budget)
	defer cancel()
	return s.answerer.Read(ctx, r, func(b answer.Book) error {
		v, err := b.Version(ctx)
		if err != nil || v == reply.version {
			return err
		}
		found, err := b.Images(ctx, q)
		if err != nil {
			return err
		}
		results, _ := flatpakResults(found, s.owners)
		*reply = replyTo(results, assertions)
		reply.version = v
		return nil
	})
}

// replyTo returns the reply for results.
func replyTo(results []flatpakRepository, assertions []assertion) assertReply {
	reply := assertReply{Results: results, Failures: []assertion{}}
	have := generic(results)
	for _, a := range assertions {
		if contains(have, generic(a.Test)) != (a.Type == "contains") {
			reply.Failures = append(reply.Failures, a)
		}
	}
	reply.Success = len(reply.Failures) == 0
	return reply
}

// generic converts v to what encoding/json reads into an any.
func generic(v any) (g any) {
	b, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(b, &g)
	}
	if err != nil {
		panic(err) // our own types, and JSON that was read before
	}
	return g
}

// contains reports whether have contains want: every key of an object, every element of
// a list in some element, and any other value if it is equal.
func contains(have, want any) bool {
	switch want := want.(type) {
	case map[string]any:
		have, ok := have.(map[string]any)
		if !ok {
			return false
		}
		for k, w := range want {
			if h, ok := have[k]; !ok || !contains(h, w) {
				return false
			}
		}
		return true
	case []any:
		have, ok := have.([]any)
		if !ok {
			return false
		}
		for _, w := range want {
			if !containsElement(have, w) {
				return false
			}
		}
		return true
	}
	return equal(have, want)
}

func containsElement(list []any, want any) bool {
	for _, h := range list {
		if contains(h, want) {
			return true
		}
	}
	return false
}

// equal compares a scalar with have, which may be any value; == panics on lists.
func equal(have, want any) bool {
	switch have.(type) {
	case map[string]any, []any:
		return false
	}
	return have == want
}
