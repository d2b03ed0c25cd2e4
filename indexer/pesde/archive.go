package pesde

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// A Package is what an archive contains, as far as the registry needs it.
type Package struct {
	Name   Name
	ID     ID
	Entry  Entry // without PublishedAt
	Readme []byte
	Pages  []Page // of the documentation; each text once
}

// A Page is a page of the documentation.
type Page struct {
	Name string // the path below docs/, without .md
	Hash string // SHA-256 of Text, in hexadecimal digits
	Text []byte
}

// Limits bound what is read of an archive.
type Limits struct {
	Unpacked int64 // bytes of all files
	Files    int   // and directories
	Text     int64 // bytes of one file that is kept: manifest, readme, page
	Pages    int   // of the documentation
	Entry    int   // bytes of the entry as JSON
}

// DefaultLimits are those of the registry. An archive has at most 4 MiB unless config.toml says
// otherwise; text compresses to a tenth, so 256 MiB is far from what is published (the largest of
// the 3,159 versions in the public index has less than 100 MiB). An image index of the registry
// can have 4 MiB, in which the entry stands twice as long.
var DefaultLimits = Limits{Unpacked: 256 << 20, Files: 20_000, Text: 1 << 20, Pages: 500, Entry: 256 << 10}

// maxPath is the maximum length of the path of a file in an archive, in bytes.
const maxPath = 1024

// ErrTooLarge is the error of an archive that is larger than config.toml allows.
var ErrTooLarge = errors.New("payload reached size limit")

var errCorrupt error = &Refused{"corrupt archive"}

// forbiddenFiles may not be in the root of an archive: they configure the tools of whoever
// develops the package.
var forbiddenFiles = []string{"foreman.toml", "aftman.toml", "rokit.toml", ".DS_Store", "default.project.json"}

// manifestFile is the name of a package's manifest.
const manifestFile = "pesde.toml"

// Read returns the package in an archive: tar, compressed by gzip. own are the URLs of our own
// index, in which dependencies may always be; c has the policies of the index. If the archive
// cannot be published, the error is a *Refused.
func Read(archive []byte, c Config, own []string, limits Limits) (Package, error) {
	r := &reader{limits: limits, left: limits.Unpacked, seen: map[string]bool{}}
	if err := r.readAll(archive); err != nil {
		return Package{}, err
	}
	if r.manifest == nil {
		return Package{}, invalidArchive("archive doesn't contain a manifest")
	}
	p, err := parseManifest(r.manifest)
	if err != nil {
		return Package{}, err
	}
	if p.Entry.Docs, p.Pages, err = r.docs.entries(); err != nil {
		return Package{}, err
	}
	p.Readme = r.readme
	if err := checkPolicies(p.Entry.Dependencies, c, own); err != nil {
		return Package{}, err
	}
	return p, p.check(limits)
}

// check returns an error if the entry of a package would break its readers.
func (p Package) check(limits Limits) error {
	e := p.Entry
	e.PublishedAt = "2006-01-02T15:04:05.999999999Z" // of full length
	if err := e.check(p.ID.Target); err != nil {
		return invalidArchive("pesde.toml: %s", err)
	}
	if n := len(encodeJSON(e)); n > limits.Entry {
		return invalidArchive("the metadata of the package has %d bytes: it may have at most %d", n, limits.Entry)
	}
	if _, err := (File{Entries: map[ID]Listed{p.ID: {Entry: e}}}).Encode(); err != nil {
		return invalidArchive("pesde.toml: %s", err)
	}
	return nil
}

// A reader reads an archive.
type reader struct {
	limits   Limits
	left     int64 // bytes that may still be unpacked
	seen     map[string]bool
	manifest []byte
	readme   []byte
	docs     docs
}

func (r *reader) readAll(archive []byte) error {
	zipped := bytes.NewReader(archive)
	unzipped, err := gzip.NewReader(zipped)
	if err != nil {
		return errCorrupt
	}
	// A second stream of gzip would be read by us and not by the client.
	unzipped.Multistream(false)
	files := tar.NewReader(&bounded{unzipped, &r.left})
	for {
		h, err := files.Next()
		switch {
		case errors.Is(err, io.EOF):
			return r.rest(unzipped, zipped)
		case err != nil:
			return r.broken(err)
		}
		if err := r.read(h, files); err != nil {
			return err
		}
	}
}

// rest reads what follows the last file: the checksum of gzip must be right, and nothing may follow.
func (r *reader) rest(unzipped io.Reader, zipped *bytes.Reader) error {
	if _, err := io.Copy(io.Discard, &bounded{unzipped, &r.left}); err != nil {
		return r.broken(err)
	}
	if zipped.Len() > 0 {
		return errCorrupt
	}
	return nil
}

func (r *reader) broken(err error) error {
	if errors.Is(err, errTooLarge) {
		return invalidArchive("it has more than %d bytes when it is unpacked", r.limits.Unpacked)
	}
	return errCorrupt
}

// read reads one file.
func (r *reader) read(h *tar.Header, content io.Reader) error {
	name, err := r.check(h)
	if err != nil || name == "." {
		return err
	}
	root, below, nested := strings.Cut(name, "/")
	directory := nested || h.Typeflag == tar.TypeDir
	switch {
	case directory && root == ".git":
		return invalidArchive("archive contains forbidden directory: %s", root)
	case !directory && slices.Contains(forbiddenFiles, root):
		return invalidArchive("archive contains forbidden file: %s", root)
	case !directory && root == manifestFile:
		r.manifest, err = r.text(name, content)
	case !directory && isReadme(root):
		if r.readme != nil {
			return invalidArchive("archive contains multiple readme files")
		}
		r.readme, err = r.text(name, content)
	case nested && root == "docs":
		err = r.doc(below, h, content)
	}
	return err
}

// doc reads a file below docs/.
func (r *reader) doc(name string, h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeDir {
		return r.docs.folder(name)
	}
	if path.Base(name) != categoryFile && path.Ext(name) != ".md" {
		return r.docs.folder(path.Dir(name))
	}
	text, err := r.text("docs/"+name, content)
	if err != nil {
		return err
	}
	if r.docs.files++; r.docs.files > r.limits.Pages {
		return invalidArchive("docs has more than %d pages", r.limits.Pages)
	}
	return r.docs.add(name, text)
}

// check returns the clean path of a file, or an error if it may not be in an archive. The client
// unpacks regular files and directories.
func (r *reader) check(h *tar.Header) (string, error) {
	name := path.Clean(h.Name)
	switch {
	case !utf8.ValidString(h.Name):
		return "", invalidArchive("file name contains non UTF-8 characters")
	case h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeDir:
		return "", invalidArchive("archive contains `%s`, which is neither a file nor a directory", shorten(h.Name))
	case isOutside(h.Name):
		return "", invalidArchive("archive contains a file outside of it: `%s`", shorten(h.Name))
	case len(name) > maxPath:
		return "", invalidArchive("the path `%s` has more than %d bytes", shorten(h.Name), maxPath)
	case isAmbiguous(h):
		return "", invalidArchive("`%s` has its path or size in an extended header that not all programs read: "+
			"use the format of GNU tar", shorten(h.Name))
	case h.Typeflag == tar.TypeReg && r.seen[name]:
		return "", invalidArchive("archive contains `%s` twice", shorten(h.Name))
	case len(r.seen) >= r.limits.Files:
		return "", invalidArchive("archive contains more than %d files", r.limits.Files)
	}
	r.seen[name] = true
	return name, nil
}

// drive begins paths that are absolute on Windows.
var drive = regexp.MustCompile(`^[A-Za-z]:`)

// isOutside reports whether a path leads, or could lead on some system, out of where it is unpacked.
func isOutside(name string) bool {
	return path.IsAbs(name) || slices.Contains(strings.Split(name, "/"), "..") || strings.ContainsAny(name, "\\\x00") ||
		drive.MatchString(name)
}

// maxOld is the maximum length of a path in tar's format of star, in bytes, that others read the
// same: its prefix is shorter than that of ustar, and followed by times.
const maxOld = 130

// isAmbiguous reports whether other readers than ours could see another path or size. The client
// takes the first of two equal records where ours takes the last, and knows no sparse files.
func isAmbiguous(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if key == "path" || key == "size" || strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return h.Format == tar.FormatUnknown && len(h.Name) > maxOld
}

// isReadme reports whether a file in the root is the readme.
func isReadme(name string) bool {
	name = strings.ToLower(name)
	return name == "readme.md" || name == "readme.txt"
}

// text returns a file that is kept.
func (r *reader) text(name string, content io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(content, r.limits.Text+1))
	switch {
	case err != nil:
		return nil, r.broken(err)
	case int64(len(text)) > r.limits.Text:
		return nil, invalidArchive("%s has more than %d bytes", shorten(name), r.limits.Text)
	case !utf8.Valid(text):
		return nil, errCorrupt
	}
	return append([]byte{}, text...), nil
}

var errTooLarge = errors.New("too large")

// bounded reads at most left bytes.
type bounded struct {
	from io.Reader
	left *int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if *b.left <= 0 {
		return 0, errTooLarge
	}
	if int64(len(p)) > *b.left {
		p = p[:*b.left]
	}
	n, err := b.from.Read(p)
	*b.left -= int64(n)
	return n, err
}
