package answer

import "net/http"

// RequestField is the header field with the id of the request that an answer was made
// for. A cache repeats it with a stored answer. Every answer has the field, except a
// 304: a cache would write the field of a 304 into the stored answer (RFC 9111, 3.2),
// which that request did not make.
const RequestField = "X-Request-Id"

// requestOf returns the id of the request that w answers.
func requestOf(w http.ResponseWriter) string { return w.Header().Get(RequestField) }

// maxLogged is the maximum number of characters of a path or a query in a log line:
// 1,000. The path of a tag has at most about 400. Go accepts a megabyte.
const maxLogged = 1000

// LoggedPath returns the path of a request, cut for the log. It may contain any
// characters, so the log must quote it.
func LoggedPath(r *http.Request) string { return Cut(r.URL.Path, maxLogged) }
