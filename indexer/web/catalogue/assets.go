package catalogue

import (
	"crypto/sha256"
	"embed"
	"io/fs"
	"net/http"
	"path"
	"sync"

	"github.com/portbook/portbook/indexer/web/answer"
)

//go:embed templates static
var files embed.FS

// An asset is a file that pages refer to. Its address contains the hash of its content,
// so a cache may keep it indefinitely.
type asset struct {
	*answer.Document
	hash string
}

var readAssets = sync.OnceValue(func() map[string]asset {
	assets := map[string]asset{}
	for _, e := range must(files.ReadDir("static")) {
		b := must(files.ReadFile("static/" + e.Name()))
		assets[e.Name()] = asset{&answer.Document{Plain: b}, answer.HashOf(b)}
	}
	return assets
})

// assetTypes are the media types of the files in static. An operating system may know
// none of them.
var assetTypes = map[string]string{
	".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
}

// Static serves an asset.
func (s *Catalogue) Static(w http.ResponseWriter, r *http.Request) error {
	a, ok := s.assets[r.PathValue("name")]
	if !ok {
		return answer.ErrNothingHere
	}
	freshness := "no-cache"
	if r.URL.Query().Get("v") == a.hash {
		freshness = "max-age=31536000, immutable"
	}
	return answer.Fixed(w, r, assetTypes[path.Ext(r.PathValue("name"))], freshness, a.Document)
}

// Hash returns a hash of the templates and static files. It tells apart programs with
// the same version, such as builds between two releases.
func Hash() string {
	h := sha256.New()
	err := fs.WalkDir(files, ".", func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			_, err = h.Write(must(files.ReadFile(name)))
		}
		return err
	})
	return string(must(h.Sum(nil), err))
}
