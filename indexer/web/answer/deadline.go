package answer

import (
	"net/http"
	"time"
)

// Timeout is the time limit of a request, from its header to the end of its answer:
// 30 s. The largest answer, the flatpak index of 5,000 tags, is 5 MB and is made in
// well under a second, so the 30 s are for slow readers (170 kB/s is enough). A
// client that sends or reads nothing cannot hold a connection longer than that.
// Uploads through /v2/ have no such limit: a layer may take hours.
const Timeout = 30 * time.Second

// Budget is the time that a request may spend reading the book: 5 s, measured from
// the start of reading, after any wait for min_version, to the last row. It includes
// the wait for a connection, all statements and all attempts, so that a costly
// request cannot hold a connection longer. The slowest query on a book of a million
// repositories takes a tenth of it.
const Budget = 5 * time.Second

// SetDeadline sets the read and write deadlines of a connection to d from now. The
// server removes both at the end of the request (net/http of Go 1.26, conn.serve).
// If a deadline passes while the handler runs, the request's context is also
// cancelled.
func SetDeadline(w http.ResponseWriter, d time.Duration) {
	end := time.Now().Add(d)
	c := http.NewResponseController(w)
	// Both fail only if the writer has no connection, as in a test.
	_ = c.SetReadDeadline(end)
	_ = c.SetWriteDeadline(end)
}
