package copier

import (
	"context"

	"github.com/distribution/distribution/v3/registry/storage/driver"
)

// A timed driver limits how long a request for one small thing takes.
type timed struct{ driver.StorageDriver }

// GetContent reads an object.
func (t timed) GetContent(ctx context.Context, name string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, stall)
	defer cancel()
	return t.StorageDriver.GetContent(ctx, name)
}

// PutContent writes an object.
func (t timed) PutContent(ctx context.Context, name string, content []byte) error {
	ctx, cancel := context.WithTimeout(ctx, stall)
	defer cancel()
	return t.StorageDriver.PutContent(ctx, name, content)
}

// Stat tells what there is.
func (t timed) Stat(ctx context.Context, name string) (driver.FileInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, stall)
	defer cancel()
	return t.StorageDriver.Stat(ctx, name)
}
