package sweep

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/registry/storage/driver"
)

// MaxOrder is how many blobs one order names: 10,000, so that what it holds in memory is
// bounded. Each order walks the links of all repositories once or twice, however few it names.
const MaxOrder = 10_000

// ErrOnlyLooks is the error of orders if deletion is not allowed.
var ErrOnlyLooks = errors.New("this sweeper only looks: start it with --delete to let it delete")

// An order is one order while it runs.
type order struct {
	s    *Sweeper
	dir  string // of the trash, for what this order moves
	want map[key]*wanted
	list []key     // in the order in which they were named
	from time.Time // manifests whose links are older are not read
	give func(Line) error
	told time.Time
}

// wanted is what is known of a blob that an order names.
type wanted struct {
	inUse  string // why it must stay; "" if nothing is known that does
	moved  bool   // to the trash by this order
	places []file // its data in the trash
}

// begin starts an order, if no other call runs.
func (s *Sweeper) begin(o Order, give func(Line) error) (*order, error) {
	if len(o.Digests) > MaxOrder {
		return nil, fmt.Errorf("an order names at most %d blobs, not %d", MaxOrder, len(o.Digests))
	}
	stamp := time.Now().UTC().Format(stampLayout) + "-" + strings.ToLower(rand.Text()[:8])
	x := &order{
		s: s, dir: path.Join(trashRoot, stamp), want: map[key]*wanted{}, give: give, told: time.Now(), from: o.Since,
	}
	for _, text := range o.Digests {
		k, ok := keyOf(text)
		if !ok {
			return nil, fmt.Errorf("%.80q is not a digest of the form sha256:HEX", text)
		}
		if x.want[k] == nil {
			x.want[k] = &wanted{}
			x.list = append(x.list, k)
		}
	}
	if !s.turn.TryLock() {
		return nil, ErrBusy
	}
	return x, nil
}

// Trash moves blobs to the trash that no repository links and no manifest names, if their data
// are old enough. Afterwards it looks again, and puts back what has got a link meanwhile. It
// does so even if the context ends while it moves blobs.
func (s *Sweeper) Trash(ctx context.Context, o Order, give func(Line) error) error {
	if !s.config.Delete {
		return ErrOnlyLooks
	}
	x, err := s.begin(o, give)
	if err != nil {
		return err
	}
	defer s.turn.Unlock()
	if err := x.recheck(ctx); err != nil {
		return err
	}
	age := max(s.config.Grace, seconds(o.Seconds))
	if err := x.each(ctx, func(k key, w *wanted) error { return x.tell(k, x.moveAway(ctx, k, w, age)) }); err != nil {
		return errors.Join(err, x.confirm(ctx))
	}
	return x.confirm(ctx)
}

// Purge deletes the data of blobs that have been in the trash for long enough. What has got a
// link or is named by a manifest is put back instead.
func (s *Sweeper) Purge(ctx context.Context, o Order, give func(Line) error) error {
	if !s.config.Delete {
		return ErrOnlyLooks
	}
	x, err := s.begin(o, give)
	if err != nil {
		return err
	}
	defer s.turn.Unlock()
	if len(x.list) == 0 {
		return nil
	}
	if err := errors.Join(x.findTrash(ctx), x.recheck(ctx)); err != nil {
		return err
	}
	stay := max(s.config.Keep, seconds(o.Seconds))
	return x.each(ctx, func(k key, w *wanted) error { return x.tell(k, x.delete(ctx, k, w, stay)) })
}

// Restore puts blobs back from the trash, all of them if the order names none.
func (s *Sweeper) Restore(ctx context.Context, o Order, give func(Line) error) error {
	x, err := s.begin(o, give)
	if err != nil {
		return err
	}
	defer s.turn.Unlock()
	if err := x.findTrash(ctx); err != nil {
		return err
	}
	return x.each(ctx, func(k key, w *wanted) error { return x.tell(k, x.putBack(ctx, k, w)) })
}

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }

// each calls f for each blob until the context ends.
func (x *order) each(ctx context.Context, f func(key, *wanted) error) error {
	for _, k := range x.list {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := f(k, x.want[k]); err != nil {
			return err
		}
	}
	return nil
}

// tell reports what became of a blob.
func (x *order) tell(k key, d Done) error {
	d.Digest = k.String()
	if d.Outcome != Kept && d.Outcome != Absent {
		x.s.config.Log.Info("blob "+string(d.Outcome), "digest", d.Digest, "size", d.Size, "reason", d.Reason)
	}
	return x.give(Line{Done: &d})
}

// recheck walks all links, and reads the manifests since the order's time, to find which of
// the blobs must stay.
func (x *order) recheck(ctx context.Context) error {
	blind := ""
	w := walker{driver: x.s.config.Driver, problem: func(path string, err error) {
		blind = fmt.Sprintf("%s %v: it may hide links", path, err)
	}}
	manifests := map[key]bool{}
	w.visit = func(f file) error { return x.recheckFile(ctx, f, manifests, &blind) }
	if err := w.walk(ctx, repositoriesRoot); err != nil {
		return fmt.Errorf("walk of the links: %w", err)
	}
	for _, k := range x.list {
		if blind != "" {
			x.use(k, blind)
		}
	}
	return nil
}

// recheckFile is visit of recheck.
func (x *order) recheckFile(ctx context.Context, f file, seen map[key]bool, blind *string) error {
	if f.kind != layer && f.kind != manifest {
		return nil
	}
	if err := x.live(); err != nil {
		return err
	}
	k, known := keyOf(f.digest)
	x.use(k, "a repository links it")
	if !known || f.size != linkSize {
		target, err := readLink(x.s.config.Driver, f.path)
		x.use(target, "a repository links it")
		if err != nil && !known && !isAbsent(err) {
			*blind = fmt.Sprintf("%s %v: it may hide links", f.path, err)
		}
	}
	if f.kind != manifest || !known || seen[k] || f.modified.Before(x.from) {
		return nil
	}
	seen[k] = true
	// What a manifest names that cannot be read is still kept by the links of its repository.
	names, _ := namedBy(ctx, x.s.config.Driver, k)
	for _, n := range names {
		x.use(n.key, "the manifest "+k.String()+" names it")
	}
	return ctx.Err()
}

// live gives a line from time to time, so that a client that has gone away is noticed.
func (x *order) live() error {
	if time.Since(x.told) < progressEvery {
		return nil
	}
	x.told = time.Now()
	return x.give(Line{Progress: &Progress{}})
}

// use notes that a blob must stay.
func (x *order) use(k key, reason string) {
	if w := x.want[k]; w != nil {
		w.inUse = reason
	}
}

// unit returns what is moved as one: on a disk the directory of a blob, so that nothing of it
// is left behind; elsewhere, where there are no directories, the data.
func (x *order) unit(dir string) string {
	if x.s.config.Driver.Name() == "filesystem" {
		return dir
	}
	return dir + "/data"
}

// moveAway moves one blob to the trash.
func (x *order) moveAway(ctx context.Context, k key, w *wanted, age time.Duration) Done {
	if w.inUse != "" {
		return Done{Outcome: Kept, Reason: w.inUse}
	}
	d := x.s.config.Driver
	info, err := d.Stat(ctx, k.place()+"/data")
	switch {
	case isAbsent(err):
		return Done{Outcome: Absent, Reason: "the storage does not have it"}
	case err != nil:
		return Done{Outcome: Failed, Reason: err.Error()}
	case time.Since(info.ModTime()) < age:
		return Done{Outcome: Kept, Size: info.Size(), Reason: "its data are younger than " + age.String()}
	}
	to := path.Join(x.dir, k.String()[len("sha256:"):])
	// Not interrupted: S3 copies and then deletes.
	if err := d.Move(context.WithoutCancel(ctx), x.unit(k.place()), x.unit(to)); err != nil {
		return Done{Outcome: Failed, Size: info.Size(), Reason: err.Error()}
	}
	w.moved = true
	return Done{Outcome: Trashed, Size: info.Size()}
}

// confirm looks at the links once more, and puts back what has got one since recheck.
func (x *order) confirm(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	var moved []key
	for _, k := range x.list {
		if x.want[k].inUse = ""; x.want[k].moved {
			moved = append(moved, k)
		}
	}
	if x.list = moved; len(moved) == 0 {
		return nil
	}
	give := x.give
	x.give = func(l Line) error { give(l); return nil } // who gave the order may be gone
	if err := errors.Join(x.recheck(ctx), x.findTrash(ctx)); err != nil {
		return err
	}
	return x.each(ctx, func(k key, w *wanted) error {
		if w.inUse == "" {
			return nil
		}
		return x.tell(k, x.putBack(ctx, k, w))
	})
}

// findTrash finds the data of the blobs in the trash. An order that names no blob gets all.
func (x *order) findTrash(ctx context.Context) error {
	all := len(x.list) == 0
	w := walker{driver: x.s.config.Driver, problem: func(string, error) {}}
	w.visit = func(f file) error {
		k, ok := keyOf(f.digest)
		if ok && all && x.want[k] == nil {
			x.want[k] = &wanted{}
			x.list = append(x.list, k)
		}
		if ok && x.want[k] != nil {
			x.want[k].places = append(x.want[k].places, f)
		}
		return nil
	}
	return w.walk(ctx, trashRoot)
}

// delete deletes one blob from the trash.
func (x *order) delete(ctx context.Context, k key, w *wanted, stay time.Duration) Done {
	switch {
	case len(w.places) == 0:
		return Done{Outcome: Absent, Reason: "the trash does not have it"}
	case w.inUse != "":
		return x.putBack(ctx, k, w)
	}
	for _, f := range w.places {
		if time.Since(f.trashedAt()) < stay {
			return Done{Outcome: Kept, Size: f.size, Reason: "it has been in the trash for less than " + stay.String()}
		}
	}
	for _, f := range w.places {
		if err := x.drop(ctx, f); err != nil {
			return Done{Outcome: Failed, Size: f.size, Reason: err.Error()}
		}
	}
	return Done{Outcome: Deleted, Size: w.places[0].size}
}

// drop deletes data in the trash, and its directories if they are empty then.
func (x *order) drop(ctx context.Context, f file) error {
	d := x.s.config.Driver
	ctx = context.WithoutCancel(ctx)
	if err := d.Delete(ctx, path.Dir(f.path)); err != nil && !isAbsent(err) {
		return err
	}
	return dropEmpty(ctx, d, path.Dir(path.Dir(f.path)))
}

// putBack moves one blob from the trash to its place. If its data are there already, because
// it was pushed again, the trash is emptied of it.
func (x *order) putBack(ctx context.Context, k key, w *wanted) Done {
	if len(w.places) == 0 {
		return Done{Outcome: Absent, Reason: "the trash does not have it"}
	}
	ctx = context.WithoutCancel(ctx)
	for _, f := range w.places {
		if err := x.putBackFile(ctx, k, f); err != nil {
			return Done{Outcome: Failed, Size: f.size, Reason: err.Error()}
		}
	}
	return Done{Outcome: Restored, Size: w.places[0].size, Reason: w.inUse}
}

func (x *order) putBackFile(ctx context.Context, k key, f file) error {
	d := x.s.config.Driver
	info, err := d.Stat(ctx, k.place()+"/data")
	switch {
	case err == nil && info.Size() == f.size:
		return x.drop(ctx, f)
	case err == nil:
		return fmt.Errorf("its data of %d bytes are in place, and the trash has %d bytes", info.Size(), f.size)
	case !isAbsent(err):
		return err
	}
	if err := d.Move(ctx, x.unit(path.Dir(f.path)), x.unit(k.place())); err != nil {
		return err
	}
	if f.trashed.IsZero() {
		return nil
	}
	return dropEmpty(ctx, d, path.Dir(path.Dir(f.path)))
}

// dropEmpty deletes a directory of the trash if it is empty.
func dropEmpty(ctx context.Context, d driver.StorageDriver, dir string) error {
	rest, err := d.List(ctx, dir)
	if err != nil || len(rest) > 0 {
		return nil
	}
	if err := d.Delete(ctx, dir); err != nil && !isAbsent(err) {
		return err
	}
	return nil
}
