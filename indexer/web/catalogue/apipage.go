package catalogue

import (
	"net/http"
	"reflect"
	"strings"

	"github.com/portbook/portbook/indexer/web/answer"
)

// An apiView is the content of the API page.
type apiView struct {
	Operations []operationView
	Schemas    []schemaView
	Changes    bool // whether some operations change something
}

type operationView struct {
	ID, Verb, Route, Summary string
	Body, Gives              string // names of schemas
	Takes                    []fieldView
}

type schemaView struct {
	Name   string
	Fields []fieldView
}

type fieldView struct {
	Name, Type, Ref, Doc string // Ref is the schema that Type names
	Optional             bool
}

// Method returns the method in lower case, for the anchor of the operation.
func (o operationView) Method() string { return strings.ToLower(o.Verb) }

// API serves the API page, made from the OpenAPI operations.
func (s *Catalogue) API(w http.ResponseWriter, r *http.Request) error {
	var view apiView
	seen := map[reflect.Type]bool{}
	for _, d := range s.config.Operations {
		o := operationView{ID: d.ID, Verb: d.Verb(), Route: d.Route, Summary: d.Summary}
		view.Changes = view.Changes || d.Body != nil
		for _, p := range append(d.PathParameters(), d.Parameters()...) {
			o.Takes = append(o.Takes, fieldView{Name: p.Name, Doc: p.Doc, Type: strings.Join(p.OneOf, ", ")})
		}
		if t := reflect.TypeOf(d.Body); t != nil {
			o.Body = answer.SchemaName(t)
			view.add(t, seen)
		}
		if t := reflect.TypeOf(d.Gives); t != nil && t.Kind() == reflect.Struct {
			o.Gives = answer.SchemaName(t)
			view.add(t, seen)
		}
		view.Operations = append(view.Operations, o)
	}
	view.add(reflect.TypeFor[answer.Problem](), seen)
	return s.fixed(w, r, "api", page{Title: "API", Main: view})
}

// add adds the struct t and then, recursively, the structs that its fields use.
func (v *apiView) add(t reflect.Type, seen map[reflect.Type]bool) {
	if seen[t] {
		return
	}
	seen[t] = true
	shown := schemaView{Name: answer.SchemaName(t)}
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
			field.Ref = answer.SchemaName(of)
			inner = append(inner, of)
		}
		shown.Fields = append(shown.Fields, field)
	}
	v.Schemas = append(v.Schemas, shown)
	for _, t := range inner {
		v.add(t, seen)
	}
}

// typeName describes t in words and returns the struct in it, nil if there is none.
func typeName(t reflect.Type) (string, reflect.Type) {
	switch {
	case t == reflect.TypeFor[answer.Timestamp]():
		return "time (RFC 3339)", nil
	case t.Kind() == reflect.Pointer:
		return typeName(t.Elem())
	case t.Kind() == reflect.Struct:
		return answer.SchemaName(t), t
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
