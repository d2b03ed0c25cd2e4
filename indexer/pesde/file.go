package pesde

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/pelletier/go-toml/v2"
)

// A Listed is an Entry of a package file.
type Listed struct {
	Entry
	Yanked bool
	// Digest is that of the manifest of its artifact; "" if it is not known. Clients ignore it.
	Digest string
}

// A File is what the index repository says of a package, in the file scope/name.
type File struct {
	Deprecated string // the reason; "": it is not deprecated
	Entries    map[ID]Listed
}

// IDs returns the versions of the file, in their order.
func (f File) IDs() []ID { return slices.SortedFunc(maps.Keys(f.Entries), ID.Compare) }

// fileEntry is a table of the file: an entry, or [meta], which has only Deprecated.
type fileEntry struct {
	Entry
	Yanked       bool             `toml:"yanked,omitempty"`
	Digest       string           `toml:"digest,omitempty"`
	Dependencies map[string][]any `toml:"dependencies,omitempty"`
	Deprecated   string           `toml:"deprecated,omitempty"`
}

const metaKey = "meta"

// ParseFile reads a package file as strictly as the client of pesde does: one bad entry is an
// error.
func ParseFile(text []byte) (File, error) {
	var tables map[string]fileEntry
	if err := toml.Unmarshal(text, &tables); err != nil {
		return File{}, fmt.Errorf("not a package file: %w", err)
	}
	f := File{Deprecated: tables[metaKey].Deprecated, Entries: map[ID]Listed{}}
	for _, key := range slices.Sorted(maps.Keys(tables)) {
		if key == metaKey {
			continue
		}
		id, err := ParseID(key)
		if err != nil {
			return File{}, fmt.Errorf("entry `%s`: %w", shorten(key), err)
		}
		if f.Entries[id], err = tables[key].listed(id); err != nil {
			return File{}, fmt.Errorf("entry `%s`: %w", key, err)
		}
	}
	return f, nil
}

// listed returns the entry of a table.
func (t fileEntry) listed(id ID) (Listed, error) {
	e := t.Entry
	for alias, parts := range t.Dependencies {
		d, err := dependencyOf(parts)
		if err != nil {
			return Listed{}, fmt.Errorf("dependency %s: %w", shorten(alias), err)
		}
		if e.Dependencies == nil {
			e.Dependencies = map[string]Dependency{}
		}
		e.Dependencies[alias] = d
	}
	e = e.normal()
	return Listed{e, t.Yanked, t.Digest}, e.check(id.Target)
}

// dependencyOf returns the dependency that is written as [specifier, kind].
func dependencyOf(parts []any) (d Dependency, err error) {
	if len(parts) != 2 {
		return d, errors.New("it is not a list of a specifier and a kind")
	}
	kind, ok := parts[1].(string)
	if !ok {
		return d, errors.New("its kind is not a string")
	}
	text, err := toml.Marshal(parts[0])
	if err != nil {
		return d, err
	}
	d.Kind = kind
	return d, toml.Unmarshal(text, &d.Specifier)
}

// Encode returns the text of the file. It has read it back, as the client would.
func (f File) Encode() ([]byte, error) {
	var text bytes.Buffer
	if f.Deprecated != "" {
		if err := writeTable(&text, metaKey, fileEntry{Deprecated: f.Deprecated}); err != nil {
			return nil, err
		}
	}
	for _, id := range f.IDs() {
		e := f.Entries[id]
		if err := writeTable(&text, id.String(), tableOf(e)); err != nil {
			return nil, err
		}
	}
	read, err := ParseFile(text.Bytes())
	if err != nil {
		return nil, fmt.Errorf("the package file would break its readers: %w", err)
	}
	if !reflect.DeepEqual(read, f) {
		return nil, errors.New("the package file would be read as something else")
	}
	return text.Bytes(), nil
}

// tableOf returns an entry as it is written.
func tableOf(e Listed) fileEntry {
	t := fileEntry{Entry: e.Entry, Yanked: e.Yanked, Digest: e.Digest}
	for alias, d := range e.Dependencies {
		if t.Dependencies == nil {
			t.Dependencies = map[string][]any{}
		}
		t.Dependencies[alias] = []any{d.Specifier, d.Kind}
	}
	return t
}

// writeTable writes one table with its name. Tables are written one by one, because the encoder
// would order them by their letters.
func writeTable(text *bytes.Buffer, key string, t fileEntry) error {
	if text.Len() > 0 {
		text.WriteByte('\n')
	}
	var value any = t
	if key == metaKey {
		value = map[string]string{"deprecated": t.Deprecated}
	}
	return toml.NewEncoder(text).Encode(map[string]any{key: value})
}
