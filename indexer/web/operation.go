package web

import (
	"reflect"
	"strings"
	"unicode"
)

// A parameter is one of a query.
type parameter struct {
	name, doc string
	oneOf     []string // the values it may have; nil: any
	max       int      // of a number from 1; 0: it is none
}

// pathParameters are those in addresses.
var pathParameters = []parameter{
	{name: "name", doc: "a repository; its slashes may be written as %2F"},
	{name: "reference", doc: "a tag or a digest"},
	{name: "tag", doc: "a tag"},
	{name: "digest", doc: "a digest, algorithm:hex"},
}

// An operation is a route that answers JSON to strangers, as the OpenAPI document
// describes it.
type operation struct {
	route   string // its address, as OpenAPI writes it
	id      string // unique
	summary string
	takes   []parameter // of the query
	gives   any         // a zero value of what is answered, as JSON; nil: bytes of any kind
	media   string      // if it is not JSON
	book    bool        // whether it is an answer of a state of the book, which takes min_version too
	errors  errorShape
}

// An errorShape is the shape in which a route tells errors.
type errorShape string

// The shapes of errors.
const (
	problemErrors errorShape = "problem"  // RFC 9457
	registryShape errorShape = "registry" // distribution-spec 1.1, "Error Codes"
	messageErrors errorShape = "message"  // {"error": text}
	textErrors    errorShape = "text"
)

// parameters are all that an operation takes.
func (o operation) parameters() []parameter {
	if !o.book {
		return o.takes
	}
	return append(o.takes[:len(o.takes):len(o.takes)],
		parameter{name: "min_version", doc: "a Portbook-Version: waits up to 10 s until the book has come to it"})
}

// pathParameters are those in its address.
func (o operation) pathParameters() (list []parameter) {
	for _, p := range pathParameters {
		if strings.Contains(o.route, "{"+p.name+"}") {
			list = append(list, p)
		}
	}
	return list
}

// schemaName is the name of the schema of a struct.
func schemaName(t reflect.Type) string {
	name := []rune(t.Name())
	name[0] = unicode.ToUpper(name[0])
	return string(name)
}

// apiPrefix begins every address of the API.
const apiPrefix = "/api/v1"
