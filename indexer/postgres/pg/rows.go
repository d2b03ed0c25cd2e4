package pg

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"time"
)

// Unnest returns an SQL expression for FROM: the rows of Arrays, under an alias. It
// has a column for each field of T, in the order of the fields; the parameters are
// $first and those that follow it. A column has the name that Collect looks for, in
// snake case, or the name in the field's tag: db:"name".
//
// T is a struct with exported fields. Unnest panics if a field has a type that is not
// in sqlTypes, so call it where package variables are initialized.
func Unnest[T any](alias string, first int) string {
	row := reflect.TypeFor[T]()
	var parameters, names []string
	for i := range row.NumField() {
		parameters = append(parameters, fmt.Sprintf("$%d::%s[]", first+i, sqlType(row.Field(i))))
		names = append(names, columnName(row.Field(i)))
	}
	return fmt.Sprintf("unnest(%s) AS %s (%s)", strings.Join(parameters, ", "), alias, strings.Join(names, ", "))
}

// Arrays returns rows as the parameters of Unnest: for each field of T a slice of its
// values, in order of the rows. Without rows the slices are nil, which pgx sends as
// NULL.
func Arrays[T any](rows []T) []any {
	var row T
	of, fields := reflect.ValueOf(rows), reflect.ValueOf(row)
	arrays := make([]any, fields.NumField())
	for i := range arrays {
		slice := reflect.SliceOf(fields.Field(i).Type())
		if len(rows) == 0 {
			arrays[i] = reflect.Zero(slice).Interface()
			continue
		}
		values := reflect.MakeSlice(slice, len(rows), len(rows))
		for n := range rows {
			values.Index(n).Set(of.Index(n).Field(i))
		}
		arrays[i] = values.Interface()
	}
	return arrays
}

// sqlTypes are the SQL types of the fields of rows. A field may also be a pointer to
// one of the types, nil for null.
var sqlTypes = map[reflect.Type]string{
	reflect.TypeFor[bool]():      "bool",
	reflect.TypeFor[int16]():     "smallint",
	reflect.TypeFor[int32]():     "int",
	reflect.TypeFor[int64]():     "bigint",
	reflect.TypeFor[float64]():   "float8",
	reflect.TypeFor[string]():    "text",
	reflect.TypeFor[[]byte]():    "bytea",
	reflect.TypeFor[time.Time](): "timestamptz",
}

func sqlType(f reflect.StructField) string {
	of := f.Type
	if of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	name, ok := sqlTypes[of]
	if !ok || !f.IsExported() {
		panic(fmt.Sprintf("field %s of type %s cannot be a column", f.Name, f.Type))
	}
	return name
}

// wordStart matches where a word of a Go name begins: RepositoryID is repository and id,
// SBOMTags is sbom and tags.
var wordStart = regexp.MustCompile("([a-z0-9])([A-Z])|([A-Z])([A-Z][a-z])")

func columnName(f reflect.StructField) string {
	if name := f.Tag.Get("db"); name != "" {
		return name
	}
	return strings.ToLower(wordStart.ReplaceAllString(f.Name, "${1}${3}_${2}${4}"))
}
