package answer

import (
	"net/http"
	"path"
	"strings"

	"github.com/portbook/portbook/indexer"
)

// maxFileName is the maximum length of a file name: 120 bytes. Most systems allow
// 255, and some programs add a path before the name.
const maxFileName = 120

// FileName makes a file name from parts. The name is valid on every system, even if
// the parts come from strangers: letters, digits, dots, _ and -, no dot at the
// beginning. The extension is never cut.
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

// FileOf returns the name of a file about a reference. It uses the last component of
// the repository name, as people do.
func FileOf(ref indexer.Reference, extension string) string {
	which := ref.Tag
	if ref.Digest != "" {
		which = Short(ref.Digest)
	}
	return FileName(extension, path.Base(ref.Repository), which)
}

// BlobFile returns the file name of a blob: its title without folders, or else the
// name of the reference that it belongs to.
func BlobFile(title, mediaType string, ref indexer.Reference) string {
	if title = path.Base(strings.TrimSpace(title)); strings.Trim(title, "./") != "" {
		return FileName("", title)
	}
	return FileOf(ref, extensionOf(mediaType))
}

// extensionOf returns the usual file extension of a media type, or "" if unknown.
func extensionOf(mediaType string) string {
	t := strings.ToLower(mediaType)
	for _, e := range []struct{ part, extension string }{
		{"json", ".json"}, {"tar+gzip", ".tar.gz"}, {"tar.gzip", ".tar.gz"}, {"tar+zstd", ".tar.zst"},
		{".tar", ".tar"}, {"xml", ".xml"}, {"wasm", ".wasm"}, {"text/plain", ".txt"},
	} {
		if strings.Contains(t, e.part) {
			return e.extension
		}
	}
	return ""
}

// AsFile makes a browser save an answer as a file, whatever the address is. The name
// must come from FileName.
func AsFile(h http.Header, name string) {
	h.Set("Content-Disposition", `attachment; filename="`+name+`"`)
}
