package answer

import (
	"reflect"
	"strings"
	"unicode"
)

// A Parameter is one of a query.
type Parameter struct {
	Name, Doc string
	OneOf     []string // the values it may have; nil: any
	Max       int      // of a number from 1; 0: it is none
}

// pathParameters are those in addresses.
var pathParameters = []Parameter{
	{Name: "name", Doc: "a repository; its slashes may be written as %2F"},
	{Name: "reference", Doc: "a tag or a digest"},
	{Name: "tag", Doc: "a tag"},
	{Name: "digest", Doc: "a digest, algorithm:hex"},
}

// An Operation is a route that answers JSON to strangers, as the OpenAPI document
// describes it.
type Operation struct {
	Route   string // its address, as OpenAPI writes it
	ID      string // unique
	Summary string
	Takes   []Parameter // of the query
	Gives   any         // a zero value of what is answered, as JSON; nil: bytes of any kind
	Media   string      // if it is not JSON
	Book    bool        // whether it is an answer of a state of the book, which takes min_version too
	Errors  errorShape
}

// An errorShape is the shape in which a route tells errors.
type errorShape string

// The shapes of errors.
const (
	ProblemErrors errorShape = "problem"  // RFC 9457
	RegistryShape errorShape = "registry" // distribution-spec 1.1, "Error Codes"
	MessageErrors errorShape = "message"  // {"error": text}
	TextErrors    errorShape = "text"
)

// Parameters are all that an operation takes.
func (o Operation) Parameters() []Parameter {
	if !o.Book {
		return o.Takes
	}
	return append(o.Takes[:len(o.Takes):len(o.Takes)],
		Parameter{Name: "min_version", Doc: "a Portbook-Version: waits up to 10 s until the book has come to it"})
}

// PathParameters are those in its address.
func (o Operation) PathParameters() (list []Parameter) {
	for _, p := range pathParameters {
		if strings.Contains(o.Route, "{"+p.Name+"}") {
			list = append(list, p)
		}
	}
	return list
}

// SchemaName is the name of the schema of a struct.
func SchemaName(t reflect.Type) string {
	name := []rune(t.Name())
	name[0] = unicode.ToUpper(name[0])
	return string(name)
}

// APIPrefix begins every address of the API.
const APIPrefix = "/api/v1"
