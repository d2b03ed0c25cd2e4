package web

import (
	"cmp"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"time"
)

// operations are all that the OpenAPI document describes: the API, and then the
// protocols of others.
func (s *apiServer) operations() (all []operation) {
	for _, e := range s.endpoints() {
		all = append(all, e.operation())
	}
	return append(all, s.config.Others...)
}

type object = map[string]any

// describe makes the OpenAPI document, of version 3.1.
func (s *apiServer) describe() []byte {
	schemas := object{}
	paths := object{}
	for _, d := range s.operations() {
		paths[d.route] = object{"get": describeOperation(d, schemas)}
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

// describeOperation describes one operation, and adds its types to schemas.
func describeOperation(o operation, schemas object) object {
	parameters := []object{}
	for _, p := range o.pathParameters() {
		parameters = append(parameters, object{"name": p.name, "in": "path", "required": true, "description": p.doc, "schema": object{"type": "string"}})
	}
	for _, p := range o.parameters() {
		parameters = append(parameters, object{"name": p.name, "in": "query", "description": p.doc, "schema": parameterSchema(p)})
	}
	success := object{"description": "The answer", "content": contentOf(o, schemas)}
	responses := object{"200": success, "default": object{"description": "An error", "content": errorsOf(o, schemas)}}
	if o.book {
		success["headers"] = object{
			versionField: object{"description": "the state of the catalogue: EPOCH.NUMBER", "schema": object{"type": "string"}},
			scannedField: object{"description": "when the last whole scan ended", "schema": object{"type": "string", "format": "date-time"}},
		}
	}
	return object{"operationId": o.id, "summary": o.summary, "parameters": parameters, "responses": responses}
}

func parameterSchema(p parameter) object {
	switch {
	case p.oneOf != nil:
		return object{"type": "string", "enum": p.oneOf}
	case p.max > 0:
		return object{"type": "integer", "minimum": 1, "maximum": p.max}
	}
	return object{"type": "string"}
}

func contentOf(o operation, schemas object) object {
	media := cmp.Or(o.media, "application/json")
	if o.gives == nil {
		return object{media: object{}}
	}
	return object{media: object{"schema": schemaOf(reflect.TypeOf(o.gives), schemas)}}
}

func errorsOf(o operation, schemas object) object {
	switch o.errors {
	case problemErrors:
		return object{"application/problem+json": object{"schema": schemaOf(reflect.TypeFor[problem](), schemas)}}
	case registryShape:
		return object{"application/json": object{"schema": schemaOf(reflect.TypeFor[registryErrors](), schemas)}}
	case messageErrors:
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

// openAPIDocument answers with the document. It does not ask the book.
func (s *apiServer) openAPIDocument(w http.ResponseWriter, r *http.Request) error {
	return fixed(w, r, "application/json", cacheControl(s.config.MaxAgeHTML), &document{plain: s.openAPI})
}
