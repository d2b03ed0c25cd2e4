package registrytest

import (
	"io/fs"
	"path/filepath"

	"github.com/distribution/distribution/v3/registry/storage"
	"github.com/distribution/distribution/v3/registry/storage/driver/factory"
)

// CollectGarbage runs the garbage collection of the registry on its content, which must be
// in Root, as `registry garbage-collect` does. What it deletes may stay in the registry's
// cache until Restart.
func (r *Registry) CollectGarbage() {
	r.t.Helper()
	driver, err := factory.Create(r.t.Context(), "filesystem", map[string]any{"rootdirectory": r.Root})
	if err != nil {
		r.t.Fatal(err)
	}
	content, err := storage.NewRegistry(r.t.Context(), driver)
	if err == nil {
		err = storage.MarkAndSweep(r.t.Context(), driver, content, storage.GCOpts{Quiet: true})
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// Stored returns the number of bytes of all manifests, configs and layers in Root.
func (r *Registry) Stored() (bytes int64) {
	r.t.Helper()
	blobs := filepath.Join(r.Root, "docker", "registry", "v2", "blobs")
	err := filepath.WalkDir(blobs, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			bytes += info.Size()
		}
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return bytes
}
