package answer

import (
	"net/http"
	"path"
	"strings"

	"github.com/portbook/portbook/indexer"
)

// maxFileName is the most bytes of the name that we give to a file: 120. Most
// systems take 255, and some programs put a path before it.
const maxFileName = 120

// FileName makes parts the name of a file that every system takes, whatever
// strangers wrote: letters, digits, dots, _ and -, no dot at the beginning, and the
// extension whole.
func FileName(extension string, parts ...string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
			return r
		}
		return '-'
	}, strings.Join(parts, "-"))
	name = strings.Trim(name[:min(len(name), maxFileName-len(extension))], ".-")
	if name == "" {
		name = "file"
	}
	return name + extension
}

// FileOf is the name of a file about a reference: what stands last in the name of
// the repository is what people call it.
func FileOf(ref indexer.Reference, extension string) string {
	which := ref.Tag
	if ref.Digest != "" {
		which = Short(ref.Digest)
	}
	return FileName(extension, path.Base(ref.Repository), which)
}

// BlobFile is the name of the file that a blob is: as its title says, whose
// folders are left out, or of what it is part of.
func BlobFile(title, mediaType string, ref indexer.Reference) string {
	if title = path.Base(strings.TrimSpace(title)); strings.Trim(title, "./") != "" {
		return FileName("", title)
	}
	return FileOf(ref, extensionOf(mediaType))
}

// extensionOf gives what the files of a media type mostly end in, "" if it is not
// known.
func extensionOf(mediaType string) string {
	t := strings.ToLower(mediaType)
	for _, e := range []struct{ part, extension string }{
		{"json", ".json"}, {"tar+gzip", ".tar.gz"}, {"tar.gzip", ".tar.gz"}, {"tar+zstd", ".tar.zst"}, {".tar", ".tar"}, {"xml", ".xml"}, {"wasm", ".wasm"}, {"text/plain", ".txt"},
	} {
		if strings.Contains(t, e.part) {
			return e.extension
		}
	}
	return ""
}

// AsFile has a browser keep an answer as a file of a name that FileName made,
// whatever the address is.
func AsFile(h http.Header, name string) {
	h.Set("Content-Disposition", `attachment; filename="`+name+`"`)
}
