package indexer

// An Asker is the client that the catalogue is read for. Equal askers see the same and
// may share answers; different ones may not, so the asker is part of every ETag and of
// the key of every cache of answers. Whoever may see more or less than before is another
// asker from then on. The zero Asker sees nothing.
type Asker struct{ name string }

// Everyone is any client, known or not. Anybody may see what it sees, so shared caches
// may keep answers to it. It sees every repository; a Book restricts every answer to what
// any other asker sees, but no configuration makes one yet.
var Everyone = Asker{"everyone"}

// NewAsker returns the asker of a name. Clients that may not see the same need different
// names, and so does one client before and after its rights change.
func NewAsker(name string) Asker { return Asker{"asker " + name} }

// String returns a name that is different for each asker.
func (a Asker) String() string { return a.name }
