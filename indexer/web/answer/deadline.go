package answer

import (
	"net/http"
	"time"
)

// Timeout is how long a request may take from its header to the end of its
// answer: 30 s. The largest answer, flatpak's index of 5,000 tags, is 5 MB
// and takes well under a second to make, so 30 s is for slow readers (170 kB/s
// does); a request that sends or reads nothing holds a connection no longer.
// Uploads through /v2/ have no such limit: a layer may take hours.
const Timeout = 30 * time.Second

// Budget is how long a request may take to read the book: 5 s, from when it begins
// to read, or has waited for its min_version, to the last row. It includes the wait
// for a connection, all statements and all attempts, so that a client which asks
// for much holds a connection no longer than that. The slowest question to a book
// of a million repositories takes a tenth of it.
const Budget = 5 * time.Second

// SetDeadline ends reading and writing at d from now. The server lifts both at
// the end of the request (net/http of Go 1.26, conn.serve). A deadline that
// passes while the handler works also cancels the request's context.
func SetDeadline(w http.ResponseWriter, d time.Duration) {
	end := time.Now().Add(d)
	c := http.NewResponseController(w)
	// Both only fail on a writer that has no connection, as in a test.
	_ = c.SetReadDeadline(end)
	_ = c.SetWriteDeadline(end)
}
