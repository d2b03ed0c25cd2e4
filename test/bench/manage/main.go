// Manage measures with one command how fast a repository is deleted by an operation, beside the
// registry's own DELETE of as many manifests, which keeps nothing and looks at nothing.
//
// A missed goal is only shown, since it is also missed on a busy machine.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/test/bench/harness"
)

type bench struct {
	harness.Bench
	manifests int
}

func main() { harness.Main("bench-manage", &bench{manifests: 1000}) }

// Flags implements harness.Benchmark.
func (b *bench) Flags(flags *flag.FlagSet) {
	flags.IntVar(&b.manifests, "manifests", b.manifests, "number of manifests of each repository")
}

// Check implements harness.Benchmark.
func (b *bench) Check() error {
	if b.manifests < 1 {
		return fmt.Errorf("%d manifests: want at least 1", b.manifests)
	}
	return nil
}

const (
	database = "bench_manage"
	// goal is the part of the registry's own speed that an operation must have.
	goal = 0.8
	// clients is how many manifests are deleted at the same time, as by an operation.
	clients = 4
)

// Measure implements harness.Benchmark.
func (b *bench) Measure(ctx context.Context) error {
	if err := b.NewDatabase(ctx, database); err != nil {
		return err
	}
	if err := b.Migrate(ctx, database); err != nil {
		return err
	}
	registry, _, err := b.StartBoth(ctx, b.OnDisk(), database)
	if err != nil {
		return err
	}
	client := push.New(registry.URL)
	for _, kind := range []struct {
		title  string
		tagged bool
	}{{"Manifests without a tag", false}, {"Manifests with a tag each", true}} {
		err := b.Step(ctx, kind.title, func(ctx context.Context, s *harness.Section) error {
			return b.compare(ctx, s, client, registry.URL, kind.tagged)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// compare deletes a repository by the registry alone, and one by an operation.
func (b *bench) compare(ctx context.Context, s *harness.Section, client *push.Client, url string, tagged bool) error {
	name := "untagged"
	if tagged {
		name = "tagged"
	}
	digests, err := b.fill(ctx, client, name+"/alone", tagged)
	if err != nil {
		return err
	}
	if _, err := b.fill(ctx, client, name+"/operation", tagged); err != nil {
		return err
	}
	for _, repository := range []string{name + "/alone", name + "/operation"} {
		if err := b.known(ctx, repository, b.manifests); err != nil {
			return err
		}
	}
	began := time.Now()
	if err := deleteAll(ctx, url, name+"/alone", digests); err != nil {
		return err
	}
	alone := float64(len(digests)) / time.Since(began).Seconds()
	if err := b.known(ctx, name+"/alone", 0); err != nil {
		return err
	}
	deleted, followed, err := b.operation(ctx, name+"/operation")
	if err != nil {
		return err
	}
	ours := float64(b.manifests) / deleted
	s.Add(harness.Figure{Name: "deleted by the registry alone", Value: alone, Unit: "a second"})
	s.Add(harness.Figure{Name: "deleted by an operation", Value: ours, Unit: "a second"})
	s.Add(harness.Figure{Name: "  as a part of that", Value: ours / alone}.AtLeast(goal))
	s.Add(harness.Figure{Name: "  until the book shows none", Value: float64(b.manifests) / followed, Unit: "a second"})
	return nil
}

// fill pushes manifests to a repository: indexes without entries, which need no blobs.
func (b *bench) fill(
	ctx context.Context, client *push.Client, repository string, tagged bool,
) ([]digest.Digest, error) {
	digests := make([]digest.Digest, b.manifests)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(clients)
	for i := range digests {
		group.Go(func() error {
			tag := ""
			if tagged {
				tag = fmt.Sprintf("v%d", i)
			}
			desc, err := client.Index(ctx, repository, tag, nil, map[string]string{"number": strconv.Itoa(i)})
			digests[i] = desc.Digest
			return err
		})
	}
	return digests, group.Wait()
}

// known waits until the book has a number of manifests of a repository.
func (b *bench) known(ctx context.Context, repository string, want int) error {
	const q = "SELECT count(*) FROM manifest m JOIN repository r ON r.id = m.repository_id WHERE r.name = $1"
	return b.On(ctx, database, func(conn *pgx.Conn) error {
		return harness.Wait(ctx, 5*time.Minute, "the book to follow "+repository, func() (bool, error) {
			var n int
			err := conn.QueryRow(ctx, q, repository).Scan(&n)
			return n == want, err
		})
	})
}

// deleteAll deletes manifests by the registry alone.
func deleteAll(ctx context.Context, url, repository string, digests []digest.Digest) error {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	defer client.CloseIdleConnections()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(clients)
	for _, d := range digests {
		group.Go(func() error {
			address := url + "/v2/" + repository + "/manifests/" + d.String()
			req, err := http.NewRequestWithContext(ctx, http.MethodDelete, address, nil)
			if err != nil {
				return err
			}
			resp, err := client.Do(req)
			if err != nil {
				return err
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusAccepted {
				return fmt.Errorf("%s: %s", address, resp.Status)
			}
			return nil
		})
	}
	return group.Wait()
}

// operation deletes a repository by an operation, and returns the seconds until the registry had
// deleted all, and until the book had followed and the operation was over.
func (b *bench) operation(ctx context.Context, repository string) (deleted, followed float64, err error) {
	err = b.On(ctx, database, func(conn *pgx.Conn) error {
		const add = "INSERT INTO operation (kind, repository, actor) VALUES ('delete-repository', $1, 'bench') RETURNING id"
		var id int64
		if err := conn.QueryRow(ctx, add, repository).Scan(&id); err != nil {
			return err
		}
		return harness.Wait(ctx, 5*time.Minute, "the operation to end", func() (bool, error) {
			const q = `
				SELECT COALESCE(extract(epoch FROM
						(SELECT max(deleted_at) FROM trash WHERE operation_id = o.id) - started_at), 0)::float8,
					COALESCE(extract(epoch FROM ended_at - started_at), 0)::float8, state, error
				FROM operation o WHERE id = $1`
			var state, text string
			if err := conn.QueryRow(ctx, q, id).Scan(&deleted, &followed, &state, &text); err != nil {
				return false, err
			}
			if state == "failed" {
				return false, fmt.Errorf("the operation failed: %s", text)
			}
			return state == "done", nil
		})
	})
	return deleted, followed, err
}
