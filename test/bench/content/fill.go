package content

import (
	"context"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/portbook/portbook/registry/push"
)

// pushers is the number of parallel pushes: each waits for the registry most of the
// time.
const pushers = 16

// Fill pushes the repositories, each with the given number of tags. Without layers a
// push takes four requests instead of ten, and an indexer reads the same.
func Fill(ctx context.Context, client *push.Client, repositories []Repository, tags int, layers bool) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(pushers)
	for _, p := range repositories {
		group.Go(func() error {
			for tag := range tags {
				if err := p.push(ctx, client, tag, (p.number*tags+tag)%IndexEvery == IndexEvery-1, layers); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func (p Repository) push(ctx context.Context, client *push.Client, tag int, index, layers bool) error {
	if !index {
		_, err := client.Image(ctx, p.Name, tagName(tag), p.image(tag, "amd64", layers))
		return err
	}
	var children []ocispec.Descriptor
	for _, architecture := range []string{"amd64", "arm64"} {
		child, err := client.Image(ctx, p.Name, "", p.image(tag, architecture, layers))
		if err != nil {
			return err
		}
		children = append(children, child)
	}
	_, err := client.Index(ctx, p.Name, tagName(tag), children, nil)
	return err
}
