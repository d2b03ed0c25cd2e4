package sweep

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"
)

// maxBody is how many bytes of an order are read: 1 MiB, for MaxOrder digests of 71 bytes.
const maxBody = 1 << 20

// Handler returns the HTTP service of a sweeper, for whoever has the token. Each answer is a
// stream of lines, as they come. If the client goes away, a look ends, and an order does
// nothing further.
//
//	POST /look     what is in the storage
//	POST /trash    an Order: move blobs to the trash
//	POST /purge    an Order: delete blobs from the trash
//	POST /restore  an Order: put blobs back
//	POST /relink   an Order with a repository: link blobs there again
func (s *Sweeper) Handler(token string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /look", func(w http.ResponseWriter, r *http.Request) {
		drain(w, r)
		stream(w, func(give func(Line) error) error { return s.Look(r.Context(), give) })
	})
	mux.HandleFunc("POST /trash", ordered(s.Trash))
	mux.HandleFunc("POST /purge", ordered(s.Purge))
	mux.HandleFunc("POST /restore", ordered(s.Restore))
	mux.HandleFunc("POST /relink", ordered(s.Relink))
	want := sha256.Sum256([]byte("Bearer " + token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := sha256.Sum256([]byte(r.Header.Get("Authorization")))
		if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "unauthorized: send the token of --token-file as Authorization: Bearer TOKEN", http.StatusUnauthorized)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// ordered returns the handler of an order.
func ordered(f func(context.Context, Order, func(Line) error) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var o Order
		d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
		d.DisallowUnknownFields()
		if err := d.Decode(&o); err != nil {
			http.Error(w, "the order is not valid: "+err.Error(), http.StatusBadRequest)
			return
		}
		drain(w, r)
		stream(w, func(give func(Line) error) error {
			if err := f(r.Context(), o, give); err != nil {
				return err
			}
			return give(Line{End: true})
		})
	}
}

// drain reads the rest of the body. Only then does net/http notice that a client goes away, and
// ends the context of its request.
func drain(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxBody))
}

// stream writes the lines that f gives, and its error as the last line. An error before the
// first line has a status code.
func stream(w http.ResponseWriter, f func(give func(Line) error) error) {
	out := bufio.NewWriterSize(w, 32<<10)
	lines, began, flushed := json.NewEncoder(out), false, time.Now()
	control := http.NewResponseController(w)
	give := func(l Line) error {
		if !began {
			w.Header().Set("Content-Type", "application/x-ndjson")
			began = true
		}
		if err := lines.Encode(l); err != nil {
			return err
		}
		if l.Progress == nil && l.Done == nil && time.Since(flushed) < time.Second {
			return nil
		}
		flushed = time.Now()
		return errors.Join(out.Flush(), control.Flush())
	}
	err := f(give)
	switch {
	case err == nil:
	case began:
		lines.Encode(Line{Error: err.Error()})
	case errors.Is(err, ErrBusy):
		http.Error(w, err.Error(), http.StatusConflict)
	case errors.Is(err, ErrOnlyLooks):
		http.Error(w, err.Error(), http.StatusForbidden)
	default:
		http.Error(w, strings.ToValidUTF8(err.Error(), ""), http.StatusInternalServerError)
	}
	out.Flush() // an error means that the client has gone
}
