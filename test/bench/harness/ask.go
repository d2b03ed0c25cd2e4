package harness

import (
	"context"
	"io"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// requestTime is how long an Asker waits for an answer. A request without an answer,
	// or with another status than 200, counts as having taken that long: a server that
	// refuses quickly must not look fast.
	requestTime = 30 * time.Second
	// openConnections is how many requests of an open loop may be under way at once. The
	// others wait here, and their time counts all the same.
	openConnections = 256
	// openGrace is how long an open loop goes on after its time. What has no answer then
	// is not sent, and counts as requestTime.
	openGrace = 10 * time.Second
)

// An Asker sends GET requests to one server, over connections that it keeps.
type Asker struct {
	HTTP *http.Client
	URL  string
}

// NewAsker returns an Asker.
func NewAsker(url string) *Asker {
	// DisableCompression: otherwise this process would decompress the answers.
	transport := &http.Transport{MaxIdleConnsPerHost: openConnections, DisableCompression: true}
	return &Asker{&http.Client{Transport: transport, Timeout: requestTime}, url}
}

// An Answer is the result of one request.
type Answer struct {
	Path   string
	Status int     // 0: no answer
	MS     float64 // milliseconds until the whole answer was read
	Bytes  int64   // of the body, as it was sent
}

// Ask sends one request, as a client that accepts gzip, and reads the whole answer. It
// returns an error only if ctx has ended.
func (a *Asker) Ask(ctx context.Context, path string) (Answer, error) {
	return a.askAt(ctx, path, time.Now())
}

// askAt is Ask for a request that should have been sent at a time.
func (a *Asker) askAt(ctx context.Context, path string, due time.Time) (Answer, error) {
	answer := Answer{Path: path}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.URL+path, nil)
	if err != nil {
		return answer, err
	}
	req.Header.Set("Accept-Encoding", "gzip")
	if resp, err := a.HTTP.Do(req); err == nil {
		answer.Status = resp.StatusCode
		if answer.Bytes, err = io.Copy(io.Discard, resp.Body); err != nil {
			answer.Status = 0
		}
		resp.Body.Close()
	}
	answer.MS = Milliseconds(time.Since(due))
	if answer.Status != http.StatusOK {
		answer.MS = max(answer.MS, Milliseconds(requestTime))
	}
	return answer, ctx.Err()
}

// A Pass is the result of a number of requests.
type Pass struct {
	Answers []Answer
	Seconds float64
}

// ClosedLoop sends requests from a number of clients, each of which sends its next one
// when it has read an answer. It stops after limit.
func (a *Asker) ClosedLoop(ctx context.Context, paths []string, clients int, limit time.Duration) (Pass, error) {
	queue := make(chan string, len(paths))
	for _, path := range paths {
		queue <- path
	}
	close(queue)
	each := make([][]Answer, clients)
	start := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for client := range clients {
		group.Go(func() error {
			for path := range queue {
				if time.Since(start) > limit {
					return nil
				}
				answer, err := a.Ask(ctx, path)
				if err != nil {
					return err
				}
				each[client] = append(each[client], answer)
			}
			return nil
		})
	}
	err := group.Wait()
	return joined(each, start), err
}

// OpenLoop sends a number of requests each second, however long the answers take, as
// many clients that do not know of each other would. The time of an answer counts from
// the moment when its request should have been sent.
func (a *Asker) OpenLoop(ctx context.Context, paths []string, perSecond float64) (Pass, error) {
	start := time.Now()
	due := func(i int) time.Time { return start.Add(time.Duration(float64(i) / perSecond * float64(time.Second))) }
	end := due(len(paths)).Add(openGrace)
	queue := make(chan int, len(paths))
	each := make([][]Answer, openConnections)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(queue)
		for i := range paths {
			select {
			case <-time.After(time.Until(due(i))):
				queue <- i
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for worker := range openConnections {
		group.Go(func() error {
			for i := range queue {
				answer := Answer{Path: paths[i], MS: Milliseconds(requestTime)}
				if time.Now().Before(end) {
					var err error
					if answer, err = a.askAt(ctx, paths[i], due(i)); err != nil {
						return err
					}
				}
				each[worker] = append(each[worker], answer)
			}
			return nil
		})
	}
	err := group.Wait()
	return joined(each, start), err
}

func joined(each [][]Answer, start time.Time) Pass {
	p := Pass{Seconds: time.Since(start).Seconds()}
	for _, answers := range each {
		p.Answers = append(p.Answers, answers...)
	}
	return p
}

// Quantile returns a quantile of the milliseconds.
func (p Pass) Quantile(q float64) float64 {
	var all []float64
	for _, a := range p.Answers {
		all = append(all, a.MS)
	}
	return Quantile(all, q)
}

// PerSecond returns the number of answers in a second.
func (p Pass) PerSecond() float64 {
	if len(p.Answers) == 0 {
		return 0
	}
	return float64(len(p.Answers)) / p.Seconds
}

// Bytes returns the median size of an answer.
func (p Pass) Bytes() float64 {
	var all []float64
	for _, a := range p.Answers {
		all = append(all, float64(a.Bytes))
	}
	return Quantile(all, 0.5)
}

// Failed returns the number of answers other than 200, and the status of one.
func (p Pass) Failed() (n, status int) {
	for _, a := range p.Answers {
		if a.Status != http.StatusOK {
			n, status = n+1, a.Status
		}
	}
	return n, status
}

// Slowest returns the answer that took longest.
func (p Pass) Slowest() (worst Answer) {
	for _, a := range p.Answers {
		if a.MS > worst.MS {
			worst = a
		}
	}
	return worst
}

// Queries returns the number of different paths.
func (p Pass) Queries() int {
	seen := map[string]bool{}
	for _, a := range p.Answers {
		seen[a.Path] = true
	}
	return len(seen)
}
