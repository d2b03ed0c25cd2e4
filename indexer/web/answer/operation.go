package answer

import (
	"cmp"
	"net/http"
	"reflect"
	"strings"
	"unicode"

	"github.com/portbook/portbook/indexer/query"
)

// A Parameter is a parameter of the query or the path of an address.
type Parameter struct {
	Name, Doc string
	OneOf     []string // the allowed values; nil: any
	Max       int      // the largest number allowed, from 1; 0: not a number
}

// pathParameters are the parameters in paths.
var pathParameters = []Parameter{
	{Name: "name", Doc: "name of a repository; its slashes may be written as %2F"},
	{Name: "namespace", Doc: "the part of repository names before the first slash; - is that of names without one"},
	{Name: "reference", Doc: "a tag or a digest"},
	{Name: "tag", Doc: "a tag"},
	{Name: "digest", Doc: "a digest: algorithm:hex"},
	{Name: "account", Doc: "name of an account"},
	{Name: "id", Doc: "id of a token, which is not the token itself"},
	{Name: "rule", Doc: "number of a rule"},
	{Name: "plan", Doc: "number of a plan"},
	{Name: "operation", Doc: "number of an operation", Max: query.MaxNumber},
	{Name: "job", Doc: "name of a job"},
	{Name: "run", Doc: "number of a run of a job", Max: query.MaxNumber},
	{Name: "trash", Doc: "number of a manifest in the trash", Max: query.MaxNumber},
}

// An Operation is a public route, as the OpenAPI document describes it.
type Operation struct {
	Method  string // "": GET
	Route   string // its path, as OpenAPI writes it
	ID      string // unique
	Summary string
	Takes   []Parameter // in the query
	Body    any         // a zero value of the type of the JSON body; nil: none
	Codes   []int       // of answers that are no errors; nil: 200
	Gives   any         // a zero value of the type of the JSON answer; nil: any bytes, or none with 204
	Media   string      // media type, if not JSON
	Book    bool        // whether it reads the book, so that it also takes min_version
	Errors  errorShape
}

// An errorShape is the format in which a route writes errors.
type errorShape string

// The formats of errors.
const (
	ProblemErrors errorShape = "problem"  // RFC 9457
	RegistryShape errorShape = "registry" // distribution-spec 1.1, "Error Codes"
	MessageErrors errorShape = "message"  // {"error": text}
	EnvelopeShape errorShape = "envelope" // {"ok": false, "error": {"message": text}}
	TextErrors    errorShape = "text"
)

// Verb returns the method of an operation.
func (o Operation) Verb() string { return cmp.Or(o.Method, http.MethodGet) }

// Successes returns the status codes of answers that are no errors.
func (o Operation) Successes() []int {
	if o.Codes == nil {
		return []int{http.StatusOK}
	}
	return o.Codes
}

// Parameters returns all query parameters of an operation.
func (o Operation) Parameters() []Parameter {
	if !o.Book {
		return o.Takes
	}
	return append(o.Takes[:len(o.Takes):len(o.Takes)],
		Parameter{Name: "min_version", Doc: "a Portbook-Version: wait for at most 10 s until the book has this version"})
}

// PathParameters returns the parameters in the path of an operation.
func (o Operation) PathParameters() (list []Parameter) {
	for _, p := range pathParameters {
		if strings.Contains(o.Route, "{"+p.Name+"}") {
			list = append(list, p)
		}
	}
	return list
}

// SchemaName returns the name of the schema of a struct.
func SchemaName(t reflect.Type) string {
	name := []rune(t.Name())
	name[0] = unicode.ToUpper(name[0])
	return string(name)
}

// APIPrefix is the beginning of every path of the API.
const APIPrefix = "/api/v1"
