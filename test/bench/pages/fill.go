package main

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/portbook/portbook/registry/push"
)

// Names are a team, a subject and a kind: acme/order-api.
var (
	teams = strings.Fields(`payments shop data mobile research platform security finance support growth
		search media maps games travel health energy legal people sales logistics fleet ads cloud edge`)
	subjects = strings.Fields(`invoice order account ledger session profile cart refund quote contract ticket message
		report dataset model feature route device sensor image video playlist tile event metric alert policy token
		secret audit backup archive index cache queue stream batch job shift parcel`)
	kinds = strings.Fields(`api worker ui exporter operator proxy migrate cli sync gateway`)
)

var maxRepositories = len(teams) * len(subjects) * len(kinds)

// pushers is the number of parallel pushes: each waits for the registry most of the
// time.
const pushers = 8

// fill pushes repositories with the given number of tags each.
func fill(ctx context.Context, c *push.Client, repositories, tags int, tell func(string, ...any)) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(pushers)
	var done atomic.Int64
	for number := range repositories {
		group.Go(func() error {
			if err := fillOne(ctx, c, number, tags); err != nil {
				return err
			}
			if n := done.Add(1); n%2000 == 0 {
				tell("  %d repositories", n)
			}
			return nil
		})
	}
	return group.Wait()
}

// fillOne pushes one repository. Its images share their first layer, like images built
// on one base.
func fillOne(ctx context.Context, c *push.Client, number, tags int) error {
	team, subject := teams[number%len(teams)], subjects[number/len(teams)%len(subjects)]
	kind := kinds[number/len(teams)/len(subjects)]
	name := team + "/" + subject + "-" + kind
	for tag := range tags {
		created := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(number+tag*97) * time.Hour)
		version := fmt.Sprintf("1.%d.0", tag)
		spec := push.ImageSpec{
			Created: created, Author: team + "@example.com", User: "65532", WorkingDir: "/app",
			Entrypoint: []string{"/app/" + subject}, Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin", "APP_TEAM=" + team},
			ExposedPorts: []string{"8080/tcp"}, Labels: labels(name, version, created),
			History: []ocispec.History{
				{Created: &created, CreatedBy: "COPY app /app/" + subject + " # buildkit", Comment: "buildkit.dockerfile.v0"},
				{Created: &created, CreatedBy: `ENTRYPOINT ["/app/` + subject + `"]`, EmptyLayer: true},
			},
			Files: map[string]string{"app/" + subject: strings.Repeat(name, 20)},
		}
		if number%2 == 1 {
			spec.Architecture = "arm64"
		}
		if _, err := c.Image(ctx, name, version, spec); err != nil {
			return err
		}
	}
	return nil
}

// about is the end of each description, which has a usual length with it.
const about = " team: what it keeps, what it serves and what it sends to others"

// labels returns the labels that a build system writes.
func labels(name, version string, created time.Time) map[string]string {
	team, rest, _ := strings.Cut(name, "/")
	return map[string]string{
		ocispec.AnnotationTitle:         strings.ReplaceAll(rest, "-", " "),
		ocispec.AnnotationDescription:   "The " + rest + " of the " + team + about,
		ocispec.AnnotationVersion:       version,
		ocispec.AnnotationCreated:       created.Format(time.RFC3339),
		ocispec.AnnotationLicenses:      "Apache-2.0",
		ocispec.AnnotationSource:        "https://git.example.com/" + name,
		ocispec.AnnotationDocumentation: "https://docs.example.com/" + name,
		ocispec.AnnotationRevision:      fmt.Sprintf("%040x", created.Unix()),
		"com.example.team":              team,
	}
}
