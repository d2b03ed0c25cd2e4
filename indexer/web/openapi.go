package web

import (
	"bytes"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"time"
	"unicode"
)

// A described is an operation of the OpenAPI document.
type described struct {
	endpoint
	route string // its address, as OpenAPI writes it
	kind  string // of the errors: problem, registryErrors, or text
}

// described are all that answer JSON to strangers: the API, and the protocols of
// others, which have parameters and errors of their own.
func (s *server) described() []described {
	var all []described
	for _, e := range s.endpoints() {
		all = append(all, described{e, apiPrefix + e.path, "problem"})
	}
	foreign := func(route, id, summary string, gives any, kind string, takes ...parameter) {
		e := endpoint{id: id, summary: summary, gives: gives, takes: takes, book: id != "dockerPing"}
		all = append(all, described{e, route, kind})
	}
	foreign("/v1/_ping", "dockerPing", "What docker asks before it searches", true, "text")
	foreign("/v1/search", "dockerSearch", "docker search and podman search; with query or offset as /v0/search", dockerSearchAnswer{}, "text",
		parameter{name: "q", doc: "a query in the language of doc/search.md; one that cannot be read is taken as words, one that finds nothing as one like it, and the descriptions say so"},
		parameter{name: "n", doc: "how many, 25 if not said or less than 1; at most 100"},
		parameter{name: "page", doc: "from 1"})
	foreign("/v0/search", "packageSearch", "pesde's search: 50 packages", packagesAnswer{}, "message",
		parameter{name: "query", doc: "a query in the language of doc/search.md; without it, what changed last"},
		parameter{name: "offset", doc: "how many to pass over"})
	foreign("/index/static", "flatpakIndex", "flatpak's registry index; more parameters stand in doc/api.md", flatpakIndex{}, "text",
		parameter{name: "repository", doc: "exactly that"}, parameter{name: "tag", doc: "exactly that"},
		parameter{name: "os", doc: "exactly that"}, parameter{name: "architecture", doc: "exactly that"})
	foreign("/index/dynamic", "flatpakDynamicIndex", "The same, never kept without asking", flatpakIndex{}, "text")
	foreign("/v2/{name}/referrers/{digest}", "ociReferrers", "The referrers of a manifest (OCI distribution-spec 1.1)", ociIndex{}, "registryErrors",
		parameter{name: "artifactType", doc: "only those of this type"}, parameter{name: "after", doc: "as the Link to the next page has it"})
	return all
}

// ociIndex is an image index as far as /v2/NAME/referrers/DIGEST writes one; it
// describes, and is never filled.
type ociIndex struct {
	SchemaVersion int             `json:"schemaVersion"`
	MediaType     string          `json:"mediaType"`
	Manifests     []ociDescriptor `json:"manifests"`
}

type ociDescriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// pathParameters are those in addresses.
var pathParameters = []parameter{
	{name: "name", doc: "a repository; its slashes may be written as %2F"},
	{name: "reference", doc: "a tag or a digest"},
	{name: "tag", doc: "a tag"},
	{name: "digest", doc: "a digest, algorithm:hex"},
}

type object = map[string]any

// describe makes the OpenAPI document, of version 3.1.
func (s *server) describe() []byte {
	schemas := object{}
	paths := object{}
	for _, d := range s.described() {
		paths[d.route] = object{"get": d.operation(schemas)}
	}
	body, err := json.MarshalIndent(object{
		"openapi": "3.1.0",
		"info": object{
			"title": "Portbook", "version": "1", "description": "The catalogue of a container registry. It is read only and anonymous. " +
				"Every answer from the book says its state in Portbook-Version and has an ETag.",
			"license": object{"name": "Apache-2.0", "identifier": "Apache-2.0"},
		},
		"servers":    []object{{"url": "/"}},
		"paths":      paths,
		"components": object{"schemas": schemas},
	}, "", "  ")
	if err != nil {
		panic(err) // our own types
	}
	return append(body, '\n')
}

func (d described) operation(schemas object) object {
	parameters := []object{}
	for _, p := range pathParameters {
		if strings.Contains(d.route, "{"+p.name+"}") {
			parameters = append(parameters, object{"name": p.name, "in": "path", "required": true, "description": p.doc, "schema": object{"type": "string"}})
		}
	}
	for _, p := range d.parameters() {
		parameters = append(parameters, object{"name": p.name, "in": "query", "description": p.doc, "schema": p.schema()})
	}
	answer := object{"description": "The answer", "content": d.content(schemas)}
	responses := object{"200": answer, "default": object{"description": "An error", "content": d.errors(schemas)}}
	if d.book {
		answer["headers"] = object{
			versionField: object{"description": "the state of the catalogue: EPOCH.NUMBER", "schema": object{"type": "string"}},
			scannedField: object{"description": "when the last whole scan ended", "schema": object{"type": "string", "format": "date-time"}},
		}
	}
	return object{"operationId": d.id, "summary": d.summary, "parameters": parameters, "responses": responses}
}

func (p parameter) schema() object {
	switch {
	case p.oneOf != nil:
		return object{"type": "string", "enum": p.oneOf}
	case p.max > 0:
		return object{"type": "integer", "minimum": 1, "maximum": p.max}
	}
	return object{"type": "string"}
}

func (d described) content(schemas object) object {
	media := d.media
	if media == "" {
		media = "application/json"
	}
	if _, is := d.gives.(ociIndex); is {
		media = "application/vnd.oci.image.index.v1+json"
	}
	if d.gives == nil {
		return object{media: object{}}
	}
	return object{media: object{"schema": schemaOf(reflect.TypeOf(d.gives), schemas)}}
}

func (d described) errors(schemas object) object {
	switch d.kind {
	case "problem":
		return object{"application/problem+json": object{"schema": schemaOf(reflect.TypeFor[problem](), schemas)}}
	case "registryErrors":
		return object{"application/json": object{"schema": schemaOf(reflect.TypeFor[registryErrors](), schemas)}}
	case "message":
		return object{"application/json": object{"schema": object{
			"type": "object", "properties": object{"error": object{"type": "string"}}, "required": []string{"error"}}}}
	}
	return object{"text/plain": object{"schema": object{"type": "string"}}}
}

// schemaOf gives the JSON schema of what encoding/json makes of a type of ours.
// Structs are put into schemas and referred to.
func schemaOf(t reflect.Type, schemas object) object {
	if t == reflect.TypeFor[timestamp]() || t == reflect.TypeFor[time.Time]() {
		return object{"type": "string", "format": "date-time"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem(), schemas)
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return object{"type": "integer"}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return object{"type": "string", "contentEncoding": "base64"}
		}
		return object{"type": "array", "items": schemaOf(t.Elem(), schemas)}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": schemaOf(t.Elem(), schemas)}
	case reflect.Struct:
		name := schemaName(t)
		if _, known := schemas[name]; !known {
			schemas[name] = nil // for a type that holds itself
			schemas[name] = structSchema(t, schemas)
		}
		return object{"$ref": "#/components/schemas/" + name}
	}
	return object{}
}

func structSchema(t reflect.Type, schemas object) object {
	properties, required := object{}, []string{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" {
			name = f.Name
		}
		property := schemaOf(f.Type, schemas)
		if doc := f.Tag.Get("doc"); doc != "" {
			property["description"] = doc
		}
		properties[name] = property
		if !strings.Contains(options, "omit") {
			required = append(required, name)
		}
	}
	return object{"type": "object", "properties": properties, "required": required, "additionalProperties": false}
}

func schemaName(t reflect.Type) string {
	name := []rune(t.Name())
	name[0] = unicode.ToUpper(name[0])
	return string(name)
}

// openAPIDocument answers with the document. It does not ask the book.
func (s *server) openAPIDocument(w http.ResponseWriter, r *http.Request) error {
	return fixed(w, r, "application/json", cacheControl(s.MaxAgeHTML), &document{plain: s.openAPI})
}

// An apiView is the page that shows the API.
type apiView struct {
	Operations []operationView
	Schemas    []schemaView
}

type operationView struct {
	ID, Route, Summary, Gives string
	Takes                     []fieldView
}

type schemaView struct {
	Name   string
	Fields []fieldView
}

type fieldView struct {
	Name, Type, Ref, Doc string // Ref is the schema that Type names
	Optional             bool
}

// apiPage shows the OpenAPI document.
func (s *server) apiPage(w http.ResponseWriter, r *http.Request) error {
	var view apiView
	seen := map[reflect.Type]bool{}
	for _, d := range s.described() {
		o := operationView{ID: d.id, Route: d.route, Summary: d.summary}
		for _, p := range append(pathParametersOf(d.route), d.parameters()...) {
			o.Takes = append(o.Takes, fieldView{Name: p.name, Doc: p.doc, Type: strings.Join(p.oneOf, ", ")})
		}
		if t := reflect.TypeOf(d.gives); t != nil && t.Kind() == reflect.Struct {
			o.Gives = schemaName(t)
			view.add(t, seen)
		}
		view.Operations = append(view.Operations, o)
	}
	view.add(reflect.TypeFor[problem](), seen)
	var body bytes.Buffer
	if err := s.render(&body, "api", page{Title: "API", Main: view}); err != nil {
		return err
	}
	return fixed(w, r, "text/html; charset=utf-8", cacheControl(s.MaxAgeHTML), &document{plain: body.Bytes()})
}

func pathParametersOf(route string) (list []parameter) {
	for _, p := range pathParameters {
		if strings.Contains(route, "{"+p.name+"}") {
			list = append(list, p)
		}
	}
	return list
}

// add shows a struct, and then those in it.
func (v *apiView) add(t reflect.Type, seen map[reflect.Type]bool) {
	if seen[t] {
		return
	}
	seen[t] = true
	shown := schemaView{Name: schemaName(t)}
	var inner []reflect.Type
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" {
			name = f.Name
		}
		field := fieldView{Name: name, Doc: f.Tag.Get("doc"), Optional: strings.Contains(options, "omit")}
		var of reflect.Type
		if field.Type, of = typeName(f.Type); of != nil {
			field.Ref = schemaName(of)
			inner = append(inner, of)
		}
		shown.Fields = append(shown.Fields, field)
	}
	v.Schemas = append(v.Schemas, shown)
	for _, t := range inner {
		v.add(t, seen)
	}
}

// typeName gives a type in words, and the struct in it, nil if there is none.
func typeName(t reflect.Type) (string, reflect.Type) {
	switch {
	case t == reflect.TypeFor[timestamp]():
		return "time (RFC 3339)", nil
	case t.Kind() == reflect.Pointer:
		return typeName(t.Elem())
	case t.Kind() == reflect.Struct:
		return schemaName(t), t
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		return "base64", nil
	case t.Kind() == reflect.Slice:
		name, of := typeName(t.Elem())
		return "list of " + name, of
	case t.Kind() == reflect.Map:
		name, of := typeName(t.Elem())
		return "object of " + name, of
	case t.Kind() == reflect.Int, t.Kind() == reflect.Int64:
		return "integer", nil
	case t.Kind() == reflect.Interface:
		return "any JSON", nil
	}
	return t.Kind().String(), nil
}
