package pesde

import (
	"fmt"
	"strings"
)

// A Name is the name of a package.
type Name struct {
	Scope, Name string
}

// String returns the name as scope/name.
func (n Name) String() string { return n.Scope + "/" + n.Name }

// Lengths of the parts of names, in bytes.
const (
	minScope = 3
	maxPart  = 32
)

// ParseName returns the name that a text such as acme/foo has. The texts of its errors are those
// of pesde.
func ParseName(s string) (Name, error) {
	scope, name, ok := strings.Cut(s, "/")
	if !ok {
		return Name{}, fmt.Errorf("package name `%s` is not in the format `scope/name`", shorten(s))
	}
	if err := checkPart("scope", scope, minScope); err != nil {
		return Name{}, err
	}
	return Name{scope, name}, checkPart("name", name, 1)
}

func checkPart(what, part string, shortest int) error {
	text := ""
	switch {
	case len(part) < shortest || len(part) > maxPart:
		text = fmt.Sprintf("is not within %d-%d characters long", shortest, maxPart)
	case strings.Trim(part, "0123456789") == "":
		text = "contains only digits"
	case strings.HasPrefix(part, "_") || strings.HasSuffix(part, "_"):
		text = "starts or ends with an underscore"
	case strings.Trim(part, "abcdefghijklmnopqrstuvwxyz0123456789_") != "":
		text = "contains characters outside a-z, 0-9, and _"
	default:
		return nil
	}
	return fmt.Errorf("package %s `%s` %s", what, shorten(part), text)
}

// IsRepository reports whether the registry can have a repository of this name: the stock registry
// allows at most two underscores between letters.
func (n Name) IsRepository() bool {
	return !strings.Contains(n.Scope, "___") && !strings.Contains(n.Name, "___")
}

// maxQuoted is the maximum number of bytes of a text from outside that an error quotes.
const maxQuoted = 100

func shorten(s string) string {
	if len(s) > maxQuoted {
		s = s[:maxQuoted] + "..."
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// checkWally returns an error unless s is the name of a package of Wally, such as acme/foo-bar.
func checkWally(s string) error {
	scope, name, ok := strings.Cut(strings.TrimPrefix(s, "wally#"), "/")
	if !ok {
		return fmt.Errorf("wally package name `%s` is not in the format `scope/name`", shorten(s))
	}
	for _, part := range []struct{ what, text string }{{"scope", scope}, {"name", name}} {
		switch {
		case part.text == "" || len(part.text) > 64:
			return fmt.Errorf("wally package %s `%s` is not within 1-64 characters long", part.what, shorten(part.text))
		case strings.Trim(part.text, "abcdefghijklmnopqrstuvwxyz0123456789-") != "":
			return fmt.Errorf("wally package %s `%s` contains characters outside a-z, 0-9, and -",
				part.what, shorten(part.text))
		}
	}
	return nil
}

// maxAlias is the maximum length of an alias, in bytes.
const maxAlias = 48

// reserved are the aliases that a project cannot use: they are names of programs and of folders, or
// of devices of Windows.
var reserved = map[string]bool{
	"self": true, "cart": true, "pesde": true, "lune": true, "con": true, "prn": true, "aux": true, "nul": true,
}

// checkAlias returns an error unless s can be the alias of a dependency.
func checkAlias(s string) error {
	lower := strings.ToLower(s)
	device := len(lower) == 4 && (strings.HasPrefix(lower, "com") || strings.HasPrefix(lower, "lpt")) &&
		lower[3] >= '0' && lower[3] <= '9'
	switch {
	case s == "" || len(s) > maxAlias:
		return fmt.Errorf("alias `%s` is not within 1-%d characters long", shorten(s), maxAlias)
	case strings.Trim(lower, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "":
		return fmt.Errorf("alias `%s` contains characters outside a-z, A-Z, 0-9, -, and _", shorten(s))
	case reserved[lower] || device:
		return fmt.Errorf("alias `%s` is reserved", s)
	}
	return nil
}
