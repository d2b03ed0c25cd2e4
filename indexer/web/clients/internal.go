package clients

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/answer"
)

// jobTimeout is how long a request waits for the end of a job: 30 minutes, as long as the
// scheduler of Deploys.app does. The job goes on afterwards.
const jobTimeout = 30 * time.Minute

// refusalEvery is how often a refused request for a job is logged at most: once a minute. Anybody
// can send them.
const refusalEvery = time.Minute

// jobEvery is how often a request looks whether its job has ended: 250 ms.
const jobEvery = 250 * time.Millisecond

// Jobs has the leader run jobs: see postgres.Store.
type Jobs interface {
	RequestJob(ctx context.Context, name string) (indexer.JobRun, error)
	JobRun(ctx context.Context, id int64) (indexer.JobRun, error)
}

// Internal returns the routes by which a scheduler asks for jobs, in the form of the registry of
// Deploys.app: 204 when the job has ended, 401 without the secret, 500 with the reason.
func (s *Clients) Internal() (routes []Route) {
	for _, name := range indexer.InternalJobs {
		run := func(w http.ResponseWriter, r *http.Request) { s.internal(w, r, name) }
		routes = append(routes, Route{"POST /internal/" + name, http.HandlerFunc(run)})
	}
	return routes
}

func (s *Clients) internal(w http.ResponseWriter, r *http.Request, name string) {
	w.Header().Set("Cache-Control", "no-store")
	if why := s.refusedJob(r); why != "" {
		s.logRefusal(r, name, why)
		http.Error(w, "unauthorized", http.StatusUnauthorized)
		return
	}
	if s.config.Jobs == nil {
		http.Error(w, "this indexer only reads: the front must send requests for jobs to the writer",
			http.StatusServiceUnavailable)
		return
	}
	leave, ok := s.jobs.Take(r)
	if !ok {
		http.Error(w, "too many requests wait for a job: try again later", http.StatusServiceUnavailable)
		return
	}
	defer leave()
	answer.SetDeadline(w, jobTimeout+answer.Timeout)
	switch err := s.runJob(r, name); {
	case err == nil:
		w.WriteHeader(http.StatusNoContent)
	default:
		s.log.WarnContext(r.Context(), "job requested and not done", "job", name, "error", err)
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// logRefusal logs that a request for a job was refused, at most once in refusalEvery.
func (s *Clients) logRefusal(r *http.Request, name, why string) {
	now, last := time.Now().UnixNano(), s.refusedAt.Load()
	if now-last > int64(refusalEvery) && s.refusedAt.CompareAndSwap(last, now) {
		s.log.WarnContext(r.Context(), "request for a job refused", "job", name, "reason", why)
	}
}

// refusedJob returns why a request may not ask for a job; "" if it may.
func (s *Clients) refusedJob(r *http.Request) string {
	switch {
	case s.config.InternalSecret != "" && !s.knowsSecret(r):
		return "it does not have the secret of internal.secret"
	case s.config.InternalSecret != "":
		return ""
	case !s.config.InternalOpen:
		return "internal.secret is empty, and other machines can reach http.address"
	case isForwarded(r):
		return "internal.secret is empty, and a proxy or a name that is not of this machine was used: set internal.secret"
	}
	return ""
}

// knowsSecret reports whether a request has the secret. It compares hashes, so that its duration
// depends on neither the bytes nor the length of the secret.
func (s *Clients) knowsSecret(r *http.Request) bool {
	got := sha256.Sum256([]byte(r.Header.Get("Authorization")))
	want := sha256.Sum256([]byte("Bearer " + s.config.InternalSecret))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

// isForwarded reports whether a request that comes from this machine may have been sent by
// another one: a proxy says so in a field, uses HTTP/1.0 as nginx does unless it is told
// otherwise, or passes on the name by which others know it. A page in a browser here that has a
// name of its own for this address (DNS rebinding) uses that name too.
func isForwarded(r *http.Request) bool {
	for name := range r.Header {
		if name == "Via" || name == "Forwarded" || name == "X-Real-Ip" || strings.HasPrefix(name, "X-Forwarded") {
			return true
		}
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return !r.ProtoAtLeast(1, 1) || host != "localhost" && (err != nil || !ip.IsLoopback())
}

// runJob has the leader run a job, and returns why it failed, in words for the client.
func (s *Clients) runJob(r *http.Request, name string) error {
	ctx, cancel := context.WithTimeout(r.Context(), jobTimeout)
	defer cancel()
	actor := access.Actor{Name: "internal", Source: answer.ClientOf(r).Addr().String()}
	run, err := s.config.Jobs.RequestJob(access.WithActor(context.WithoutCancel(ctx), actor), name)
	for err == nil && !run.Ended() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: not done after %v: it goes on", name, jobTimeout)
		case <-time.After(jobEvery):
		}
		var now indexer.JobRun
		if now, err = s.config.Jobs.JobRun(ctx, run.ID); errors.Is(err, indexer.ErrUnavailable) {
			err = nil // the database may be back soon
		} else {
			run = now
		}
	}
	switch {
	case err != nil:
		s.log.WarnContext(ctx, "job not requested", "job", name, "error", err)
		return fmt.Errorf("%s: %s", name, indexer.Reason(err))
	case run.Error != "":
		return errors.New(run.Error)
	}
	return nil
}
