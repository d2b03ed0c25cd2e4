package postgres

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// A PackageIndex is the index of packages within a transaction in which nobody else changes it.
type PackageIndex struct {
	tx      pgx.Tx
	changed bool
}

// ChangePackages runs f in a transaction in which only it changes the index of packages. The actor
// of ctx must have its permit.
func (s *Store) ChangePackages(ctx context.Context, f func(*PackageIndex) error) error {
	return s.beginPartitioned(ctx, func(tx pgx.Tx, c cluster) error {
		// Readers are not affected by this lock.
		if _, err := tx.Exec(ctx, "LOCK TABLE package_bundle IN SHARE ROW EXCLUSIVE MODE"); err != nil {
			return err
		}
		if err := permitted(ctx, tx); err != nil {
			return err
		}
		x := &PackageIndex{tx: tx}
		if err := f(x); err != nil || !x.changed {
			return err
		}
		return bump(ctx, tx, c, nil)
	})
}

// PackageHead returns the last bundle without its data; its ID is 0 if there is none.
func (s *Store) PackageHead(ctx context.Context) (b indexer.PackageBundle, err error) {
	const q = "SELECT id, base, head FROM package_bundle ORDER BY id DESC LIMIT 1"
	all, err := pg.Collect[packageBundleRow](ctx, s.pool, q)
	if len(all) > 0 {
		b = indexer.PackageBundle{ID: all[0].ID, Base: all[0].Base, Head: all[0].Head}
	}
	return b, pg.Wrap("head of packages", err)
}

// A packageBundleRow is a row of package_bundle without its bundle.
type packageBundleRow struct {
	ID         int64
	Base, Head []byte
}

// PackageBundles returns all bundles without their data, in the order in which they build on one
// another.
func (s *Store) PackageBundles(ctx context.Context) (all []indexer.PackageBundle, err error) {
	rows, err := pg.Collect[packageBundleRow](ctx, s.pool, "SELECT id, base, head FROM package_bundle ORDER BY id")
	for _, r := range rows {
		all = append(all, indexer.PackageBundle{ID: r.ID, Base: r.Base, Head: r.Head})
	}
	return all, pg.Wrap("bundles of packages", err)
}

// PackageBundle returns the data of a bundle, or ErrNotFound if there is none: all may have been
// made one meanwhile.
func (s *Store) PackageBundle(ctx context.Context, id int64) ([]byte, error) {
	data, err := pg.Column[[]byte](ctx, s.pool, "SELECT bundle FROM package_bundle WHERE id = $1", id)
	switch {
	case err != nil:
		return nil, pg.Wrap("bundle of packages", err)
	case len(data) == 0:
		return nil, indexer.ErrNotFound
	}
	return data[0], nil
}

// Files returns the files of the index with these paths, those that there are.
func (x *PackageIndex) Files(ctx context.Context, paths ...string) (map[string][]byte, error) {
	return packageFiles(ctx, x.tx, paths)
}

// PackageFiles returns the files of packages with these names, those that there are and whose
// repository, prefix and the name, the asker may see.
func (v *View) PackageFiles(ctx context.Context, prefix string, names []string) (map[string][]byte, error) {
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !v.visible.Sees(prefix + name) })
	files, err := packageFiles(ctx, v.tx, names)
	return files, pg.Wrap("packages", err)
}

// PackageFile returns a file of the index, or ErrNotFound.
func (s *Store) PackageFile(ctx context.Context, path string) ([]byte, error) {
	files, err := packageFiles(ctx, s.pool, []string{path})
	if err == nil && files[path] == nil {
		err = indexer.ErrNotFound
	}
	return files[path], pg.Wrap("file of packages", err)
}

// A packageFileRow is a row of package_file.
type packageFileRow struct {
	Path    string
	Content []byte
}

func packageFiles(ctx context.Context, q pg.Querier, paths []string) (map[string][]byte, error) {
	const files = "SELECT path, content FROM package_file WHERE path = ANY($1)"
	rows, err := pg.Collect[packageFileRow](ctx, q, files, paths)
	all := map[string][]byte{}
	for _, r := range rows {
		all[r.Path] = r.Content
	}
	return all, err
}

// Paths returns the paths of all files.
func (x *PackageIndex) Paths(ctx context.Context) ([]string, error) {
	return pg.Column[string](ctx, x.tx, "SELECT path FROM package_file ORDER BY path")
}

// Set replaces files, and deletes those without content.
func (x *PackageIndex) Set(ctx context.Context, files map[string][]byte) error {
	const set = `
		INSERT INTO package_file (path, content) SELECT * FROM unnest($1::text[], $2::bytea[])
		ON CONFLICT (path) DO UPDATE SET content = excluded.content`
	var paths, gone []string
	var contents [][]byte
	for path, content := range files {
		if content == nil {
			gone = append(gone, path)
			continue
		}
		paths, contents = append(paths, path), append(contents, content)
	}
	x.changed = true
	if _, err := x.tx.Exec(ctx, "DELETE FROM package_file WHERE path = ANY($1)", gone); err != nil {
		return err
	}
	_, err := x.tx.Exec(ctx, set, paths, contents)
	return err
}

// Add adds a bundle to the history. If it has the whole history, it replaces all others.
func (x *PackageIndex) Add(ctx context.Context, b indexer.PackageBundle) error {
	x.changed = true
	if b.Base == nil {
		if _, err := x.tx.Exec(ctx, "DELETE FROM package_bundle"); err != nil {
			return err
		}
	}
	const add = "INSERT INTO package_bundle (base, head, bundle) VALUES ($1, $2, $3)"
	_, err := x.tx.Exec(ctx, add, b.Base, b.Head, b.Data)
	return err
}

// Record records what was done by the actor of ctx.
func (x *PackageIndex) Record(ctx context.Context, r access.Record) error {
	return record(ctx, x.tx, r)
}

// Number returns the number of the account of the actor of ctx, 0 if it has none.
func (x *PackageIndex) Number(ctx context.Context) (uint64, error) {
	name := access.ActorOf(ctx).Name
	ids, err := pg.Column[int64](ctx, x.tx, "SELECT id FROM account WHERE name = $1", name)
	if err != nil || len(ids) == 0 {
		return 0, err
	}
	return uint64(slices.Max(ids)), nil
}
