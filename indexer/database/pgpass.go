package database

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/portbook/portbook/indexer/config"
)

// passwords reads the passwords that are not set from the pgpass file.
func (cs *Connections) passwords(d config.Database, log *slog.Logger) error {
	if d.DynamicAuth.AWSRDSIAM.Region != "" {
		cs.work.password, cs.migrate.password = "database.dynamicAuth", "database.dynamicAuth"
		return nil
	}
	if cs.work.Password != "" && cs.migrate.Password != "" {
		return nil
	}
	file, err := readPassfile(d.Passfile)
	switch {
	case errors.Is(err, fs.ErrNotExist) && d.PassfileFrom == "": // the default file is optional
	case errors.Is(err, fs.ErrNotExist):
		log.Warn("pgpass file does not exist", "file", d.Passfile, "named_by", d.PassfileFrom,
			"remedy", "create it with mode 0600, or name another file")
	case err != nil:
		log.Warn("pgpass file not used", "file", d.Passfile, "error", err)
	}
	return errors.Join(cs.work.look(file), cs.migrate.look(file))
}

// look reads the password from a pgpass file if it is not set.
//
// pgx has one password for all hosts of a list. A standby has the users of its
// primary, so the hosts of one cluster have one password; a file with different ones
// is an error.
func (c *connection) look(file passfile) error {
	if c.Password != "" {
		return nil
	}
	c.password = "none"
	if file.path != "" {
		c.password = fmt.Sprintf("none: no matching line in pgpass file %s", file.path)
		if file.lines == nil {
			c.password = fmt.Sprintf("none: pgpass file %s does not exist or is not used", file.path)
		}
	}
	found := 0
	for _, h := range append([]*pgconn.FallbackConfig{{Host: c.Host, Port: c.Port}}, c.Fallbacks...) {
		password, line := file.find(h.Host, h.Port, databaseOf(&c.Config), c.User)
		if line == 0 {
			continue
		}
		if found != 0 && password != c.Password {
			return fmt.Errorf("pgpass file %s: lines %d and %d have different passwords of %q for hosts of one"+
				" list: use one password for all servers of a cluster", file.path, found, line, c.User)
		}
		if found == 0 {
			found, c.Password, c.password = line, password, fmt.Sprintf("pgpass file %s:%d", file.path, line)
		}
	}
	return nil
}

// passfileLimit is the maximum size of a pgpass file in bytes, which is far more than a
// list of passwords needs.
const passfileLimit = 1 << 20

// A passfile is a pgpass file: lines of host:port:database:user:password.
// https://www.postgresql.org/docs/current/libpq-pgpass.html
//
// It is parsed as libpq does (passwordFromFile in fe-connect.c). The package that pgx
// uses differs: it accepts a file that others may read, trims spaces from passwords,
// ignores lines with an extra colon, does not match socket directories and does not
// use the default database.
type passfile struct {
	path  string
	lines []string
}

// readPassfile reads the file at path; an empty path means no file. It returns
// fs.ErrNotExist if the file does not exist. Other errors name a remedy.
func readPassfile(path string) (passfile, error) {
	f := passfile{path: path}
	if path == "" {
		return f, nil
	}
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // do not block on a named pipe
	if err != nil {
		return f, err
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return f, err
	case !info.Mode().IsRegular():
		return f, fmt.Errorf("%s is not a regular file: set PGPASSFILE to one", path)
	case info.Mode().Perm()&0o077 != 0:
		return f, fmt.Errorf("%s has mode %04o, which lets other users access it: chmod 600 %s",
			path, info.Mode().Perm(), path)
	case info.Size() > passfileLimit:
		return f, fmt.Errorf("%s has %d bytes, more than %d: set PGPASSFILE to a pgpass file",
			path, info.Size(), passfileLimit)
	}
	b, err := io.ReadAll(io.LimitReader(file, passfileLimit))
	f.lines = strings.Split(string(b), "\n")
	return f, err
}

// find returns the password and the number of the first line that matches, or 0 if
// none does. The host localhost also matches a Unix socket.
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

// match compares the first fields of a line with values. The next field is the
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

// cutField cuts a line after its first field. A colon ends the field; a backslash
// escapes the next character.
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
