package sweep

import (
	"context"
	"fmt"

	"github.com/distribution/reference"
)

// Relink links blobs in a repository again, as layers. It is for a link that was removed in
// the moment in which a manifest that needs it was pushed: the registry checks the links of a
// manifest before it stores it. What is in the trash is put back first.
func (s *Sweeper) Relink(ctx context.Context, o Order, give func(Line) error) error {
	if _, err := reference.WithName(o.Repository); err != nil {
		return fmt.Errorf("repository %.80q: %w", o.Repository, err)
	}
	if len(o.Digests) == 0 {
		return nil
	}
	x, err := s.begin(o, give)
	if err != nil {
		return err
	}
	defer s.turn.Unlock()
	if err := x.findTrash(ctx); err != nil {
		return err
	}
	return x.each(ctx, func(k key, w *wanted) error { return x.tell(k, x.relink(ctx, o.Repository, k, w)) })
}

func (x *order) relink(ctx context.Context, repository string, k key, w *wanted) Done {
	if len(w.places) > 0 {
		if d := x.putBack(ctx, k, w); d.Outcome != Restored {
			return d
		}
	}
	d := x.s.config.Driver
	info, err := d.Stat(ctx, k.place()+"/data")
	if isAbsent(err) {
		return Done{Outcome: Absent, Reason: "the storage does not have it"}
	}
	if err == nil {
		err = d.PutContent(ctx, k.linkIn(repository), []byte(k.String()))
	}
	if err != nil {
		return Done{Outcome: Failed, Reason: err.Error()}
	}
	return Done{Outcome: Restored, Size: info.Size(), Reason: "it is linked again in " + repository}
}
