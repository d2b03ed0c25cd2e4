package launch

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
)

// An output prints lines of several programs without mixing them, and no
// secrets: at level info the registry logs the headers of its notifications at
// start, the token among them (distribution v3.1.2, registry/handlers/app.go:509).
type output struct {
	mu      sync.Mutex
	w       io.Writer
	logs    bool // whether lines of programs are shown
	secrets []string
}

func newOutput(w io.Writer) *output { return &output{w: w} }

// hide makes sure that secret is never printed.
func (o *output) hide(secret string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if secret != "" {
		o.secrets = append(o.secrets, secret)
	}
}

func (o *output) showLogs() { o.setLogs(true) }
func (o *output) hideLogs() { o.setLogs(false) }

func (o *output) setLogs(show bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.logs = show
}

// print prints a line of our own.
func (o *output) print(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.line(fmt.Sprintf(format, args...))
}

// line prints one line. A terminal that went away is no reason to stop.
func (o *output) line(text string) { fmt.Fprintln(o.w, o.clean(text)) }

func (o *output) clean(text string) string {
	for _, secret := range o.secrets {
		text = strings.ReplaceAll(text, secret, "[secret]")
	}
	return text
}

// log gives a writer whose lines are printed behind the name of a program while
// logs are shown. What a program says before is kept by its process, for the
// message if it fails.
func (o *output) log(name string) io.Writer {
	return &lineWriter{prefix: fmt.Sprintf("%-8s | ", name), out: o}
}

// longestLine is where a line without an end is cut: a program gone wild must
// not fill our memory.
const longestLine = 64 << 10

type lineWriter struct {
	prefix string
	out    *output
	rest   []byte // a line that has not ended yet
}

func (w *lineWriter) Write(b []byte) (int, error) {
	w.out.mu.Lock()
	defer w.out.mu.Unlock()
	w.rest = append(w.rest, b...)
	for {
		line, rest, ok := bytes.Cut(w.rest, []byte("\n"))
		if !ok && len(w.rest) < longestLine {
			return len(b), nil
		}
		if w.out.logs {
			w.out.line(w.prefix + string(line))
		}
		w.rest = rest
	}
}
