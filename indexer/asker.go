package indexer

// An Asker is who the catalogue is read for. Equal askers see the same and may share
// answers; others may not, so the asker is part of every ETag and of the key of every
// cache of answers. The zero Asker sees nothing.
type Asker struct{ name string }

// Everyone is any client, known or not. What it sees anybody may see, so shared caches
// may keep answers to it. It is not called after what it sees, which is everything only
// as long as access cannot be restricted.
var Everyone = Asker{"everyone"}

// String tells askers apart.
func (a Asker) String() string { return a.name }
