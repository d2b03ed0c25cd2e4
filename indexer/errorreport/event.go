package errorreport

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/getsentry/sentry-go"

	"github.com/portbook/portbook/indexer"
)

const (
	// maxText is the maximum length of one text of a report: 300 bytes.
	maxText = 300
	// maxFrames is the maximum number of functions of a stack: 40, the innermost.
	maxFrames = 40
	// maxTypes is the maximum number of types of errors: 12.
	maxTypes = 12
)

// ours begins the names of our packages.
const ours = "github.com/portbook/portbook/"

// A problem is what a report tells.
type problem struct {
	message string // fixed, of our own code
	err     error  // nil: unknown
	route   string // pattern of the route; "" outside of requests
	status  int    // of the answer; 0: none
	request string // id; "" outside of requests
	level   sentry.Level
}

// kind is the same for problems that one report tells enough of.
func (p problem) kind() string { return strings.Join(p.fingerprint(), "\x00") }

func (p problem) fingerprint() []string {
	types := strings.Join(typesOf(p.err), " ")
	return []string{p.message, p.route, strconv.Itoa(p.status), types, withoutNumbers(panicked(p.err))}
}

// withoutNumbers leaves out digits: an index that is out of range is another one each time.
func withoutNumbers(s string) string {
	return strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' {
			return -1
		}
		return r
	}, s)
}

// event returns the report of p. before is how many were not sent before it.
func (r *Reporter) event(p problem, before int) *sentry.Event {
	e := sentry.NewEvent()
	e.EventID = newID()
	e.Timestamp = time.Now().UTC()
	e.Platform = "go"
	e.Sdk = sentry.SdkInfo{Name: "sentry.go", Version: sentry.SDKVersion}
	e.Level = p.level
	e.Release = "portbook@" + r.config.Release
	e.Message = cut(p.message)
	e.Transaction = cut(p.route)
	e.Fingerprint = p.fingerprint()
	e.Contexts = nil
	e.Tags = map[string]string{"role": r.config.Role}
	for name, value := range map[string]string{
		"route": cut(p.route), "request_id": cut(p.request), "status": number(p.status), "not_sent_before": number(before),
	} {
		if value != "" {
			e.Tags[name] = value
		}
	}
	if p.err != nil {
		e.Exception = []sentry.Exception{exceptionOf(p.err)}
	}
	return e
}

func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func newID() sentry.EventID {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return sentry.EventID(hex.EncodeToString(b[:]))
}

// exceptionOf describes an error without its text, which may quote hosts, users, addresses and
// whatever somebody sent.
func exceptionOf(err error) sentry.Exception {
	types := typesOf(err)
	x := sentry.Exception{Type: cut(types[len(types)-1])}
	x.Value = reasonOf(err) + " (" + strings.Join(types, " > ") + ")"
	var database interface{ SQLState() string } // of pgx
	if errors.As(err, &database) && isState(database.SQLState()) {
		x.Value += " SQLSTATE " + database.SQLState()
	}
	if p, ok := errors.AsType[*indexer.Panic](err); ok {
		x.Type, x.Value = "panic", panicked(err)
		x.Stacktrace = &sentry.Stacktrace{Frames: framesOf(p.Callers)}
	}
	x.Value = cut(x.Value)
	return x
}

// reasonOf returns the begin of the public reason of an error. After a colon or in quotes it may
// name what somebody sent, which anybody may read here, but which need not leave the house.
func reasonOf(err error) string {
	reason, _, _ := strings.Cut(indexer.Reason(err), ":")
	if strings.ContainsAny(reason, "/@=\"`") {
		return "a fault"
	}
	return reason
}

// isState reports whether s is a code of PostgreSQL.
func isState(s string) bool {
	return len(s) == 5 && strings.Trim(s, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

// typesOf returns the types of an error and of those that it wraps, the outermost first.
func typesOf(err error) (types []string) {
	for err != nil && len(types) < maxTypes {
		types = append(types, fmt.Sprintf("%T", err))
		if several, ok := err.(interface{ Unwrap() []error }); ok {
			for _, one := range several.Unwrap() {
				types = append(types, typesOf(one)...)
			}
			break
		}
		err = errors.Unwrap(err)
	}
	return types[:min(len(types), maxTypes)]
}

// panicked describes the value of a panic, "" if err is none: an error of the runtime by its
// text, which has only numbers and types, and anything else by its type.
func panicked(err error) string {
	p, ok := errors.AsType[*indexer.Panic](err)
	if !ok {
		return ""
	}
	if failure, ok := p.Value.(runtime.Error); ok && packageOf(failure) == "runtime" {
		return failure.Error()
	}
	return fmt.Sprintf("%T", p.Value)
}

// packageOf returns the package of the type of v.
func packageOf(v any) string {
	t := reflect.TypeOf(v)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.PkgPath()
}

// framesOf returns the functions that called what panicked, the outermost first, without those
// that recovered. They have the file's name without its directory, which is that of who built
// the program.
func framesOf(callers []uintptr) (frames []sentry.Frame) {
	all := runtime.CallersFrames(callers)
	for more := len(callers) > 0; more; {
		var f runtime.Frame
		f, more = all.Next()
		if f.Function == "runtime.gopanic" {
			frames = nil
			continue
		}
		x := sentry.NewFrame(f)
		frames = append(frames, sentry.Frame{
			Function: cut(x.Function), Module: cut(x.Module), Filename: path.Base(f.File), Lineno: f.Line,
			InApp: strings.HasPrefix(f.Function, ours) || strings.HasPrefix(f.Function, "main."),
		})
	}
	frames = frames[:min(len(frames), maxFrames)]
	slices.Reverse(frames)
	return frames
}

// cut limits the length of a text.
func cut(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") + "..."
}
