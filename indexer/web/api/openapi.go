package api

import (
	"cmp"
	"encoding/json"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer/web/answer"
)

// Operations returns all operations of the OpenAPI document: first those of the API,
// then those of other protocols.
func (s *API) Operations() (all []answer.Operation) {
	for _, e := range s.endpoints() {
		all = append(all, e.operation())
	}
	return append(all, s.config.Others...)
}

type object = map[string]any

// describe returns the OpenAPI document, version 3.1.
func (s *API) describe() []byte {
	schemas := object{}
	paths := object{}
	for _, d := range s.Operations() {
		if paths[d.Route] == nil {
			paths[d.Route] = object{}
		}
		paths[d.Route].(object)[strings.ToLower(d.Verb())] = describeOperation(d, schemas)
	}
	body, err := json.MarshalIndent(object{
		"openapi": "3.1.0",
		"info": object{
			"title": "Portbook", "version": "1",
			"description": "The catalogue of a container registry, which is read-only. Where clients log in, an " +
				"answer is for the one who asks, and accounts, tokens and grants can be changed. Every answer from " +
				"the book names the state of the book in Portbook-Version and has an ETag.",
			"license": object{"name": "Apache-2.0", "identifier": "Apache-2.0"},
		},
		"servers":  []object{{"url": "/"}},
		"paths":    paths,
		"security": []object{{}, {"basic": []string{}}, {"token": []string{}}}, // any of these
		"components": object{"schemas": schemas, "securitySchemes": object{
			"basic": object{"type": "http", "scheme": "basic",
				"description": "the name of an account, with its password or a personal token"},
			"token": object{"type": "http", "scheme": "bearer", "description": "a token"},
		}},
	}, "", "  ")
	if err != nil {
		panic(err) // cannot happen with our own types
	}
	return append(body, '\n')
}

// describeOperation returns the description of one operation, and adds its types to
// schemas.
func describeOperation(o answer.Operation, schemas object) object {
	parameters := []object{}
	for _, p := range o.PathParameters() {
		parameters = append(parameters, object{
			"name": p.Name, "in": "path", "required": true, "description": p.Doc, "schema": object{"type": "string"},
		})
	}
	for _, p := range o.Parameters() {
		parameters = append(parameters, object{
			"name": p.Name, "in": "query", "description": p.Doc, "schema": parameterSchema(p),
		})
	}
	failure := object{"description": "An error", "content": errorsOf(o, schemas),
		"headers": object{answer.RequestField: requestHeader}}
	responses := object{"default": failure}
	for _, code := range o.Successes() {
		responses[strconv.Itoa(code)] = success(o, code, schemas)
	}
	described := object{"operationId": o.ID, "summary": o.Summary, "parameters": parameters, "responses": responses}
	if o.Body != nil {
		described["requestBody"] = object{"required": true, "content": object{
			"application/json": object{"schema": schemaOf(reflect.TypeOf(o.Body), schemas)}}}
	}
	return described
}

// success returns the description of an answer that is no error.
func success(o answer.Operation, code int, schemas object) object {
	headers := headersOf(o)
	if code == http.StatusCreated {
		headers["Location"] = object{"description": "the address of what was made", "schema": object{"type": "string"}}
	}
	described := object{"description": "The answer", "headers": headers}
	if code != http.StatusNoContent {
		described["content"] = contentOf(o, schemas)
	}
	return described
}

// requestHeader describes answer.RequestField.
var requestHeader = object{
	"description": "id of the request that this answer is for", "schema": object{"type": "string"},
}

// headersOf returns the descriptions of the header fields of an answer.
func headersOf(o answer.Operation) object {
	headers := object{answer.RequestField: requestHeader}
	if o.Book {
		headers[answer.VersionField] = object{
			"description": "version of the catalogue: EPOCH.NUMBER", "schema": object{"type": "string"},
		}
		headers[answer.ScannedField] = object{
			"description": "when the last full scan ended", "schema": object{"type": "string", "format": "date-time"},
		}
	}
	return headers
}

func parameterSchema(p answer.Parameter) object {
	switch {
	case p.OneOf != nil:
		return object{"type": "string", "enum": p.OneOf}
	case p.Max > 0:
		return object{"type": "integer", "minimum": 1, "maximum": p.Max}
	}
	return object{"type": "string"}
}

func contentOf(o answer.Operation, schemas object) object {
	media := cmp.Or(o.Media, "application/json")
	if o.Gives == nil {
		return object{media: object{}}
	}
	return object{media: object{"schema": schemaOf(reflect.TypeOf(o.Gives), schemas)}}
}

func errorsOf(o answer.Operation, schemas object) object {
	switch o.Errors {
	case answer.ProblemErrors:
		return object{"application/problem+json": object{"schema": schemaOf(reflect.TypeFor[answer.Problem](), schemas)}}
	case answer.RegistryShape:
		return object{"application/json": object{"schema": schemaOf(reflect.TypeFor[answer.RegistryErrors](), schemas)}}
	case answer.EnvelopeShape:
		text := object{"type": "object", "properties": object{"message": object{"type": "string"}}}
		return object{"application/json": object{"schema": object{"type": "object",
			"properties": object{"ok": object{"const": false}, "error": text}, "required": []string{"ok", "error"}}}}
	case answer.MessageErrors:
		return object{"application/json": object{"schema": object{
			"type": "object", "properties": object{"error": object{"type": "string"}}, "required": []string{"error"}}}}
	}
	return object{"text/plain": object{"schema": object{"type": "string"}}}
}

// schemaOf returns the JSON schema of a type, as encoding/json writes it. It adds
// structs to schemas and refers to them.
func schemaOf(t reflect.Type, schemas object) object {
	if t == reflect.TypeFor[answer.Timestamp]() || t == reflect.TypeFor[time.Time]() {
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
		name := answer.SchemaName(t)
		if _, known := schemas[name]; !known {
			schemas[name] = nil // ends the recursion of a type that contains itself
			schemas[name] = structSchema(t, schemas)
		}
		return object{"$ref": "#/components/schemas/" + name}
	}
	return object{}
}

func structSchema(t reflect.Type, schemas object) object {
	properties, required := object{}, []string{}
	for _, f := range reflect.VisibleFields(t) {
		if f.Anonymous { // its fields are among the visible ones
			continue
		}
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

// OpenAPI answers with the OpenAPI document. It does not read the book.
func (s *API) OpenAPI(w http.ResponseWriter, r *http.Request) error {
	freshness := answer.CacheControl(s.config.MaxAgeHTML)
	return answer.Fixed(w, r, "application/json", freshness, &answer.Document{Plain: s.openAPI})
}
