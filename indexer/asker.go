package indexer

import "strings"

// An Asker is a client that the catalogue is read for, known by what it may see: clients
// that may see the same are one asker and share answers, and a client whose rights change
// is another asker from then on. So the asker is part of every ETag and of the key of
// every cache of answers. The zero Asker sees nothing.
type Asker struct{ patterns string } // of a Visibility, each after a line feed; "*": all

// Everyone is an asker who sees every repository: any client, where access is not
// restricted.
var Everyone = AskerOf(AllVisible)

// AskerOf returns the asker who sees what v says.
func AskerOf(v Visibility) Asker {
	if v.all {
		return Asker{"*"}
	}
	var b strings.Builder
	for _, p := range v.patterns {
		b.WriteString("\n" + p)
	}
	return Asker{b.String()}
}

// Visibility returns what a may see.
func (a Asker) Visibility() Visibility {
	switch a.patterns {
	case "*":
		return AllVisible
	case "":
		return Visibility{}
	}
	return Visibility{patterns: strings.Split(a.patterns[1:], "\n")}
}

// String returns a name that is different for each asker.
func (a Asker) String() string { return a.patterns }
