package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/portbook/portbook/indexer/web/answer"
)

// maxBody is the maximum size of a body: 192 KiB. The largest that is right reports 500 images of
// at most 330 bytes.
const maxBody = 192 << 10

// read reads the JSON body of a request into the struct at which v points, which has the type
// of endpoint.body. A body that has a field that is unknown, given twice or null, or lacks one
// that must be there, is an error that names it: what is misspelt must not be ignored.
func (r asked) read(w http.ResponseWriter, v any) error {
	to := reflect.ValueOf(v).Elem()
	if to.Type() != reflect.TypeOf(r.body) {
		panic(fmt.Sprintf("%s reads a body of type %s, and documents %T", r.Pattern, to.Type(), r.body))
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return answer.Refuse(http.StatusUnsupportedMediaType,
			"the body must be JSON: send it with Content-Type: application/json")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return answer.Refuse(http.StatusRequestEntityTooLarge, "the body has more than %d bytes", maxBody)
	case err != nil:
		return answer.Invalid("the body", "cannot be read")
	}
	return decodeObject(body, to)
}

// decodeObject decodes a JSON object into the fields of a struct.
func decodeObject(body []byte, to reflect.Value) error {
	d := json.NewDecoder(bytes.NewReader(body))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return answer.Invalid("the body", "is not a JSON object")
	}
	fields, seen := fieldsOf(to.Type()), map[string]bool{}
	for d.More() {
		name, err := d.Token() // a string, since d checks the syntax
		if err != nil {
			return answer.Invalid("the body", "is not valid JSON, at byte %d", d.InputOffset())
		}
		i := slices.IndexFunc(fields, func(f bodyField) bool { return f.name == name })
		switch {
		case i < 0:
			return answer.Invalid("the body", "has the field %.64q, which is unknown: there are %s", name, namesOf(fields))
		case seen[fields[i].name]:
			return answer.Invalid("the body", "has the field %q twice: give it once", name)
		}
		seen[fields[i].name] = true
		if err := decodeField(d, fields[i], to.Field(i)); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return answer.Invalid("the body", "is not valid JSON, at byte %d", d.InputOffset())
	}
	if _, err := d.Token(); err != io.EOF {
		return answer.Invalid("the body", "has something after the JSON object")
	}
	for _, f := range fields {
		if !f.optional && !seen[f.name] {
			return answer.Invalid("the body", "lacks the field %q", f.name)
		}
	}
	return nil
}

// decodeField decodes the value of one field.
func decodeField(d *json.Decoder, f bodyField, to reflect.Value) error {
	var raw json.RawMessage
	if err := d.Decode(&raw); err != nil {
		return answer.Invalid("the body", "is not valid JSON, at byte %d", d.InputOffset())
	}
	if string(raw) == "null" {
		return answer.Invalid("the field", "%q is null: give it a value, or leave it out", f.name)
	}
	if err := json.Unmarshal(raw, to.Addr().Interface()); err != nil {
		return answer.Invalid("the field", "%q is not %s", f.name, kindOf(to.Type()))
	}
	return nil
}

// A bodyField is a field of a body, in the order of its struct.
type bodyField struct {
	name     string
	optional bool
}

func fieldsOf(t reflect.Type) (all []bodyField) {
	for i := range t.NumField() {
		name, options, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		all = append(all, bodyField{name, strings.Contains(options, "omit")})
	}
	return all
}

func namesOf(fields []bodyField) string {
	var names []string
	for _, f := range fields {
		names = append(names, f.name)
	}
	return strings.Join(names, ", ")
}

// kindOf describes what JSON a field takes.
func kindOf(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[answer.Timestamp]():
		return "a time such as \"2026-01-31T12:00:00Z\""
	case t.Kind() == reflect.Pointer:
		return kindOf(t.Elem())
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Int:
		return "a whole number"
	case t.Kind() == reflect.Slice:
		return "a list of strings"
	}
	return "a string"
}
