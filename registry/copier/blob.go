package copier

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"
)

const (
	// maxSmall is the largest blob that is copied with one request: 1 MiB.
	maxSmall = 1 << 20
	// stall is how long a copy waits for the next bytes of a store: 2 minutes.
	stall = 2 * time.Minute
)

// wholeDrivers are the drivers for whose stores an object is there as a whole or not at all, also
// if the process dies. With others a blob is written beside, and moved to its place.
var wholeDrivers = []string{"s3aws", "gcs"}

// blob copies the data of a blob, at most once at a time.
func (c *Copier) blob(ctx context.Context, f file) (result, error) {
	r, err, _ := c.once.Do(f.path, func() (any, error) {
		info, err := c.config.To.Stat(ctx, f.path)
		switch {
		case err == nil && info.Size() == f.size:
			return there, nil
		case err != nil && !isAbsent(err):
			return failed, err
		}
		if err := c.copyBlob(ctx, f); err != nil {
			return failed, err
		}
		c.counts.bytes(f.size)
		return copied, nil
	})
	return r.(result), err
}

func (c *Copier) copyBlob(ctx context.Context, f file) error {
	d, err := digest.Parse(f.digest)
	if err != nil {
		return lasting{fmt.Errorf("%q is not a digest: %w", f.digest, err)}
	}
	if f.size <= maxSmall {
		return c.small(ctx, f.path, d)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(stall, func() { cancel(fmt.Errorf("no bytes for %v", stall)) })
	defer stalled.Stop()
	err = c.large(ctx, f.path, d, func() { stalled.Reset(stall) })
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

// small copies a blob that fits into memory.
func (c *Copier) small(ctx context.Context, name string, d digest.Digest) error {
	content, err := c.config.From.GetContent(ctx, name)
	switch {
	case isAbsent(err):
		return errGone
	case err != nil:
		return err
	case d.Algorithm().FromBytes(content) != d:
		return errDamaged
	}
	return c.config.To.PutContent(ctx, name, content)
}

// errDamaged is the error of a blob that does not have its digest. It may be that the store sent
// less than it has, so it is tried again.
var errDamaged = errors.New("the bytes in the source do not have the digest of the path")

// large copies a blob as a stream. Alive is called while bytes come.
func (c *Copier) large(ctx context.Context, name string, d digest.Digest, alive func()) error {
	from, err := c.config.From.Reader(ctx, name, 0)
	switch {
	case isAbsent(err):
		return errGone
	case err != nil:
		return err
	}
	defer from.Close()
	target := name
	if !slices.Contains(wholeDrivers, c.config.To.Name()) {
		sum := sha256.Sum256([]byte(name))
		target = c.stage + "/" + hex.EncodeToString(sum[:])
	}
	if err := c.stream(ctx, target, from, d, alive); err != nil || target == name {
		return err
	}
	return c.config.To.Move(ctx, target, name)
}

// stream writes a blob, and commits it if it has its digest.
func (c *Copier) stream(
	ctx context.Context, target string, from io.Reader, d digest.Digest, alive func(),
) (err error) {
	to, err := c.config.To.Writer(ctx, target, false)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			abandon(context.WithoutCancel(ctx), to)
		}
	}()
	verifier := d.Verifier()
	if _, err := io.Copy(to, io.TeeReader(living{from, alive}, verifier)); err != nil {
		return err
	}
	if !verifier.Verified() {
		return errDamaged
	}
	if err := to.Commit(ctx); err != nil {
		return err
	}
	return to.Close()
}

// abandon removes what was written. What cannot be removed does no harm: it is in no blob's place.
func abandon(ctx context.Context, to driver.FileWriter) {
	ctx, cancel := context.WithTimeout(ctx, stall)
	defer cancel()
	to.Cancel(ctx)
	to.Close()
}

// A living reader reports that bytes come.
type living struct {
	io.Reader
	alive func()
}

func (r living) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.alive()
	return n, err
}
