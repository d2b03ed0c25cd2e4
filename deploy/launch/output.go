package launch

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
)

// An output prints lines of several programs without mixing them, and removes secrets:
// at its start the registry logs the headers of its notifications, which contain the
// token (distribution v3.1.2, registry/handlers/app.go:509).
type output struct {
	mu      sync.Mutex
	w       io.Writer
	logs    bool // whether lines of programs are shown
	secrets []string
}

func newOutput(w io.Writer) *output { return &output{w: w} }

// hide replaces secret in everything that is printed from now on.
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

// print prints a line of the launcher.
func (o *output) print(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.line(fmt.Sprintf(format, args...))
}

// line prints one line. It ignores errors: a closed terminal is no reason to stop.
func (o *output) line(text string) { fmt.Fprintln(o.w, o.clean(text)) }

func (o *output) clean(text string) string {
	for _, secret := range o.secrets {
		text = strings.ReplaceAll(text, secret, "[secret]")
	}
	return text
}

// log returns a writer that prints lines, with the name of a program in front, while
// logs are shown. The process keeps its last lines for the message of a failure.
func (o *output) log(name string) io.Writer {
	return &lineWriter{prefix: fmt.Sprintf("%-8s | ", name), out: o}
}

// longestLine is the maximum number of bytes of a line; longer ones are cut, so that a
// program cannot fill our memory.
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
