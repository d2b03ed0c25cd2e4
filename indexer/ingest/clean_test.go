package ingest

import (
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/schema/schematest"
)

var unclean = map[string]string{
	"NUL":           "a\x00b",
	"invalid UTF-8": "a\xffb\xc3(\xed\xa0\x80\xe2\x82",
	"overlong":      strings.Repeat("é\x00\xff", 50_000),
}

// Every text of a finding must be stored and read back clean: PostgreSQL refuses other
// texts, and one of them would keep an image out of the book. The test fills all fields
// of text, also those added later.
func TestFindingsAreStoredClean(t *testing.T) {
	t.Parallel()
	for name, text := range unclean {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := postgres.New(schematest.New(t), postgres.Config{})
			f := uncleanFinding(text)
			m := &f.Manifests[0]
			limit(m, 1<<22)
			applyTo(t, s, "v1", f)
			fault := &indexer.Fault{Reason: "the " + text}
			applyTo(t, s, "v2", indexer.Finding{Outcome: indexer.Broken, Problem: reason(fault)})
			got, tags := readBack(t, s)
			mustBeClean(t, "manifest", reflect.ValueOf(got))
			mustBeClean(t, "tags", reflect.ValueOf(tags))
			if len(tags) != 2 || !strings.HasPrefix(tags[1].Problem, "the ") {
				t.Errorf("tags are %v, want one with a problem", tags)
			}
			// These are read from the body or from other rows.
			ignored := cmpopts.IgnoreFields(indexer.Manifest{}, "Config", "Layers", "Has", "SeenAt")
			if diff := cmp.Diff(*m, got, ignored); diff != "" {
				t.Errorf("the manifest is read back differently (-want +got):\n%s", diff)
			}
		})
	}
}

// An event must be stored, whatever its texts are.
func TestEventsAreStoredClean(t *testing.T) {
	t.Parallel()
	s := postgres.New(schematest.New(t), postgres.Config{})
	for name, text := range unclean {
		var raw rawEvent
		(&filler{text: text}).fill(reflect.ValueOf(&raw).Elem())
		raw.ID = text[:min(len(text), maxID)]
		raw.Action, raw.Target.Repository, raw.Target.Tag = "push", "demo/app", "v1"
		e, use := eventOf(raw)
		if use != useful {
			t.Fatalf("%s: the event is %s", name, use)
		}
		mustBeClean(t, name, reflect.ValueOf(e))
		if fresh, err := s.Receive(t.Context(), []indexer.Event{e}); err != nil || fresh != 1 {
			t.Errorf("%s: %d events stored, %v", name, fresh, err)
		}
	}
}

// uncleanFinding returns a finding of an index. Each of its fields of text, and of its
// manifest, is text, except names and digests.
func uncleanFinding(text string) (f indexer.Finding) {
	(&filler{text: text}).fill(reflect.ValueOf(&f).Elem())
	m := &f.Manifests[0]
	m.Repository, m.Kind = "demo/app", indexer.KindIndex
	m.ConfigBody = nil // JSON: see FuzzParseConfig
	f.Outcome, f.Digest, f.Asks = indexer.Found, m.Digest, nil
	return f
}

// A filler fills values with a text and with different digests.
type filler struct {
	text    string
	digests int
}

// fill sets all texts in v to the text. Lists and maps get one element.
func (f *filler) fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(f.text)
		if v.Type() == reflect.TypeFor[digest.Digest]() {
			f.digests++
			v.SetString(digest.FromString(strconv.Itoa(f.digests)).String())
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				f.fill(v.Field(i))
			}
		}
	case reflect.Slice:
		f.fillSlice(v)
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		f.fill(key)
		f.fill(value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	}
}

func (f *filler) fillSlice(v reflect.Value) {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		v.SetBytes([]byte(f.text))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	f.fill(v.Index(0))
}

// mustBeClean fails the test if a text below v is no text, or is longer than it may be:
// a field at most maxText bytes, an element of a list or a problem at most maxProblem.
// Labels and annotations have a limit of their own.
func mustBeClean(t *testing.T, path string, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.String:
		if !isStorable(v.String()) {
			t.Errorf("%s is %.80q", path, v.String())
		}
	case reflect.Pointer:
		if !v.IsNil() {
			mustBeClean(t, path, v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			mustBeCleanField(t, path+"."+v.Type().Field(i).Name, v.Field(i))
		}
	case reflect.Slice:
		for i := range v.Len() {
			mustBeClean(t, path, v.Index(i))
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			mustBeClean(t, path, key)
			mustBeClean(t, path, v.MapIndex(key))
		}
	}
}

func mustBeCleanField(t *testing.T, path string, v reflect.Value) {
	t.Helper()
	most := maxText
	if strings.HasSuffix(path, ".Problem") {
		most = maxProblem
	}
	if v.Kind() == reflect.String && v.Len() > most {
		t.Errorf("%s has %d bytes", path, v.Len())
	}
	mustBeClean(t, path, v)
}

// applyTo stores a finding about a tag of demo/app.
func applyTo(t *testing.T, s *postgres.Store, tag string, f indexer.Finding) {
	t.Helper()
	ask := []indexer.Ask{{Repository: "demo/app", Reference: indexer.TagOrDigest(tag)}}
	if err := s.Ask(t.Context(), ask); err != nil {
		t.Fatal(err)
	}
	tasks, err := s.Claim(t.Context(), indexer.PriorityConfirm, 1, time.Minute)
	if err != nil || len(tasks) != 1 {
		t.Fatalf("%d tasks, %v", len(tasks), err)
	}
	f.Task = tasks[0]
	if err := s.Apply(t.Context(), []indexer.Finding{f}); err != nil {
		t.Fatalf("not stored: %v", err)
	}
}

// readBack returns the manifest of demo/app:v1, and all tags of demo/app.
func readBack(t *testing.T, s *postgres.Store) (m indexer.Manifest, tags []indexer.Tag) {
	t.Helper()
	err := s.View(t.Context(), indexer.Everyone, func(v *postgres.View) (err error) {
		if m, err = v.Manifest(t.Context(), indexer.Reference{Repository: "demo/app", Tag: "v1"}); err != nil {
			return err
		}
		tags, err = v.Tags(t.Context(), "demo/app", "", 10)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m, tags
}
