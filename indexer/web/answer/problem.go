package answer

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"unicode/utf8"

	"github.com/portbook/portbook/indexer/query"
)

// Problem is an error of the API (RFC 9457). Only a query that cannot be parsed has
// the last four fields.
type Problem struct {
	Type    string `json:"type" doc:"about:blank, or /api/v1/#query for an invalid query"`
	Title   string `json:"title" doc:"the kind of problem; the same text for each problem of this kind"`
	Status  int    `json:"status" doc:"the HTTP status code"`
	Detail  string `json:"detail" doc:"what is wrong with this request"`
	Request string `json:"request_id" doc:"the X-Request-Id of this answer, which the log has too"`
	Query   string `json:"query,omitempty" doc:"the query as it was parsed"`
	Offset  *int   `json:"offset,omitempty" doc:"position of the wrong part in the query, in characters from 0"`
	Length  *int   `json:"length,omitempty" doc:"length of the wrong part, in characters"`
	Problem string `json:"problem,omitempty" doc:"what is wrong with this part, and what to write instead"`
}

// WriteErrorProblem writes an error of the API.
func WriteErrorProblem(w http.ResponseWriter, code int, text string) {
	writeProblem(w, Problem{Type: "about:blank", Title: http.StatusText(code), Status: code, Detail: text})
}

// WriteQueryError writes the error of a query that cannot be parsed, and its position.
func WriteQueryError(w http.ResponseWriter, wrong *query.Error) {
	offset := utf8.RuneCountInString(wrong.Query[:wrong.Offset])
	length := utf8.RuneCountInString(wrong.Query[wrong.Offset : wrong.Offset+wrong.Length])
	writeProblem(w, Problem{Type: "/api/v1/#query", Title: "The query cannot be understood", Status: http.StatusBadRequest,
		Detail: wrong.Error(), Query: wrong.Query, Offset: &offset, Length: &length, Problem: wrong.Problem})
}

func writeProblem(w http.ResponseWriter, p Problem) {
	p.Request = requestOf(w)
	h := w.Header()
	if p.Status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	}
	var body bytes.Buffer
	e := json.NewEncoder(&body)
	e.SetEscapeHTML(false) // the answer is never HTML, and queries contain < and >
	if err := e.Encode(p); err != nil {
		panic(err) // cannot happen with our own type
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(body.Len()))
	w.WriteHeader(p.Status)
	_, _ = w.Write(body.Bytes())
}
