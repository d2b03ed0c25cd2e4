package main

import (
	"context"

	"github.com/portbook/portbook/test/bench/harness"
)

// A peer is a registry whose images can be searched.
type peer struct {
	name  string
	start func(context.Context) (*running, error)
	path  func(question, draw) string
}

// A running is a running peer.
type running struct {
	registry, search string // addresses
	processor        func() float64
	memory           func() int64 // resident bytes of all its processes, without what they share
	settled          func(context.Context) error
	stop             func()
}

// startPortbook starts the stock registry on disk, and an indexer that receives its
// events and also serves.
func (b *bench) startPortbook(ctx context.Context) (*running, error) {
	if err := b.NewDatabase(ctx, "peers"); err != nil {
		return nil, err
	}
	registry, indexer, err := b.StartBoth(ctx, b.OnDisk(), "peers")
	if err != nil {
		return nil, err
	}
	return &running{
		registry: registry.URL, search: indexer.URL,
		processor: func() float64 {
			return harness.FamilySeconds(b.Postmaster()) +
				harness.ProcessorSeconds(registry.PID()) + harness.ProcessorSeconds(indexer.PID())
		},
		memory: func() int64 {
			return harness.FamilyMemory(b.Postmaster()) + harness.Memory(registry.PID()) + harness.Memory(indexer.PID())
		},
		settled: func(ctx context.Context) error {
			if _, err := harness.Settled(ctx, indexer.Program); err != nil {
				return err
			}
			return b.Warm(ctx, "peers")
		},
		stop: func() { indexer.Stop(); registry.Stop() },
	}, nil
}

// startZot starts zot with its storage on disk.
func (b *bench) startZot(ctx context.Context) (*running, error) {
	zot, err := b.StartZot(ctx, b.zot)
	if err != nil {
		return nil, err
	}
	return &running{
		registry: zot.URL, search: zot.URL,
		processor: func() float64 { return harness.ProcessorSeconds(zot.PID()) },
		memory:    func() int64 { return harness.Memory(zot.PID()) },
		settled: func(ctx context.Context) error {
			_, err := harness.Settled(ctx, zot.Program)
			return err
		},
		stop: zot.Stop,
	}, nil
}
