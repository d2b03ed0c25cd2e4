package main

import (
	"context"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/registry/push"
)

// fill pushes the repositories, each with the given number of tags.
func fill(ctx context.Context, client *push.Client, repositories []repository, tags int, layers bool) error {
	return each(ctx, 2*parallelism, repositories, func(ctx context.Context, p repository) error {
		for tag := range tags {
			if err := pushTag(ctx, client, p, tag, (p.number*tags+tag)%indexEvery == indexEvery-1, layers); err != nil {
				return err
			}
		}
		return nil
	})
}

func pushTag(ctx context.Context, client *push.Client, p repository, tag int, index, layers bool) error {
	if !index {
		_, err := client.Image(ctx, p.name, tagName(tag), p.image(tag, "amd64", layers))
		return err
	}
	var children []ocispec.Descriptor
	for _, architecture := range []string{"amd64", "arm64"} {
		child, err := client.Image(ctx, p.name, "", p.image(tag, architecture, layers))
		if err != nil {
			return err
		}
		children = append(children, child)
	}
	_, err := client.Index(ctx, p.name, tagName(tag), children, nil)
	return err
}

// each runs f on items, atOnce at a time, until all are done or one has failed, and
// returns the first error.
func each[T any](ctx context.Context, atOnce int, items []T, f func(context.Context, T) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	queue := make(chan T)
	var group sync.WaitGroup
	for range atOnce {
		group.Go(func() {
			for item := range queue {
				if err := f(ctx, item); err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, item := range items {
		select {
		case queue <- item:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(queue)
	group.Wait()
	return context.Cause(ctx)
}
