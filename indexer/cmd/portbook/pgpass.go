package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// passfileLimit is far more than any list of passwords: a file that is larger is
// something else.
const passfileLimit = 1 << 20 // bytes

// A passfile is a pgpass file: lines of host:port:database:user:password.
// https://www.postgresql.org/docs/current/libpq-pgpass.html
//
// It is read as libpq reads it (passwordFromFile in fe-connect.c). The package
// that pgx uses for it differs: it takes a file that others may read, trims
// spaces off passwords, passes over lines with a colon too many, knows no
// sockets but "localhost" and looks for no database where none is named.
type passfile struct {
	path  string
	lines []string
}

// readPassfile reads the file at path, "" for none. It returns fs.ErrNotExist if
// there is no such file, and otherwise an error that says what to do.
func readPassfile(path string) (passfile, error) {
	f := passfile{path: path}
	if path == "" {
		return f, nil
	}
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // not to wait for somebody to write into a pipe
	if err != nil {
		return f, err
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return f, err
	case !info.Mode().IsRegular():
		return f, fmt.Errorf("%s is not a plain file: let PGPASSFILE name one", path)
	case info.Mode().Perm()&0o077 != 0:
		return f, fmt.Errorf("%s has mode %04o, so that others may use it: chmod 600 %s", path, info.Mode().Perm(), path)
	case info.Size() > passfileLimit:
		return f, fmt.Errorf("%s has %d bytes, more than %d: let PGPASSFILE name a pgpass file", path, info.Size(), passfileLimit)
	}
	b, err := io.ReadAll(io.LimitReader(file, passfileLimit))
	f.lines = strings.Split(string(b), "\n")
	return f, err
}

// find gives the password of the first line that fits, and the number of that
// line, or 0 if none fits. The directory of a Unix socket is also called
// localhost.
func (f passfile) find(host string, port uint16, database, user string) (password string, line int) {
	hosts := []string{host}
	if strings.HasPrefix(host, "/") {
		hosts = append(hosts, "localhost")
	}
	for i, text := range f.lines {
		text = strings.TrimRight(text, "\r")
		if strings.HasPrefix(text, "#") {
			continue
		}
		for _, host := range hosts {
			if password, ok := match(text, host, strconv.Itoa(int(port)), database, user); ok {
				return password, i + 1
			}
		}
	}
	return "", 0
}

// match compares the fields of a line with values; the field behind them is the
// password.
func match(line string, values ...string) (password string, ok bool) {
	for _, value := range values {
		var field string
		var ended bool
		star := strings.HasPrefix(line, "*:")
		if field, line, ended = cutField(line); !ended || !star && field != value {
			return "", false
		}
	}
	password, _, _ = cutField(line)
	return password, true
}

// cutField cuts a line behind its first field. A backslash takes away the
// meaning of what follows it; a colon ends the field.
func cutField(line string) (field, rest string, ended bool) {
	var b strings.Builder
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == ':':
			return b.String(), line[i+1:], true
		case c == '\\' && i+1 < len(line):
			i++
			b.WriteByte(line[i])
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), "", false
}
