package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// dotEnv is the name of the file with variables in the working directory.
const dotEnv = ".env"

// maxDotEnv is the maximum size of that file: 64 KiB. Linux gives a program no more than twice as
// much by one variable; files in use have less than 4 KiB.
const maxDotEnv = 64 << 10

// variableName is the form of a variable's name.
var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// readDotEnv adds the variables of the file .env to the environment, unless they are set there.
// Those that are no settings of this program have no effect: other programs may have theirs in
// the same file. pgx reads the variables of libpq from the environment of the
// process, so these are set there too.
func (l *loader) readDotEnv() {
	if l.dir == "" {
		return
	}
	file := filepath.Join(l.dir, dotEnv)
	text, err := readTrusted(file)
	if err != nil {
		l.errs = append(l.errs, err)
		return
	}
	for _, v := range l.parseDotEnv(file, text) {
		if _, set := l.env[v.name]; set {
			continue
		}
		l.env[v.name], l.fromFile[v.name] = v.value, v.at
		if variables[v.name] != "" {
			if err := os.Setenv(v.name, v.value); err != nil {
				l.fail("%s (%s): %w", v.name, v.at, err)
			}
		}
	}
}

// readTrusted returns the text of a file, or "" if there is no regular file of this name. Whoever
// can write the file decides which database and which registry get our passwords, so it must
// belong to the user of this process or to root, and nobody else may write it.
func readTrusted(file string) (string, error) {
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && !info.Mode().IsRegular():
		return "", nil
	case err != nil:
		return "", fmt.Errorf("the file with variables: %w: make it readable, or start in another directory", err)
	case info.Mode().Perm()&0o022 != 0:
		return "", fmt.Errorf("%s can be written by others (mode %04o), so its variables are not used: chmod go-w it, or"+
			" start in another directory", file, info.Mode().Perm())
	case !ownedByUs(info):
		return "", fmt.Errorf("%s belongs neither to the user of this process nor to root, so its variables are not used:"+
			" chown it, or start in another directory", file)
	}
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("the file with variables: %w: make it readable, or start in another directory", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxDotEnv+1))
	if err == nil && len(text) > maxDotEnv {
		err = fmt.Errorf("more than %d bytes", maxDotEnv)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w: keep only variables in it", file, err)
	}
	return string(text), nil
}

// A variable is one line of a file with variables.
type variable struct{ name, value, at string }

// parseDotEnv returns the variables in text. Mistakes in the values of other programs are not
// reported, and these are left out. It does not show values, which may be secrets.
func (l *loader) parseDotEnv(file, text string) (found []variable) {
	lines := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		at := fmt.Sprintf("%s:%d", file, i+1)
		line := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(lines[i]), "export "))
		if line == "" || line[0] == '#' {
			continue
		}
		name, raw, isPair := strings.Cut(line, "=")
		name, raw = strings.TrimSpace(name), strings.TrimSpace(raw)
		if !isPair || !variableName.MatchString(name) {
			l.fail("%s: not a variable: write NAME=value, or # before a comment", at)
			continue
		}
		for isOpen(raw) && i+1 < len(lines) {
			i++
			raw += "\n" + lines[i]
		}
		value, err := unquote(raw)
		before := slices.IndexFunc(found, func(v variable) bool { return v.name == name })
		switch {
		case err == nil && before < 0 && name != "HOME": // where the pgpass file is, is not for a file to say
			found = append(found, variable{name, value, at})
		case !isSetting(name):
		case err != nil:
			l.fail("%s: %s: %w", at, name, err)
		default:
			l.fail("%s: %s is set twice, here and at %s: keep one", at, name, found[before].at)
		}
	}
	return found
}

// isSetting reports whether a variable is a setting of this program.
func isSetting(name string) bool {
	return strings.HasPrefix(name, prefix) || strings.HasPrefix(name, thvPrefix) || variables[name] != "" ||
		pesdeKeys[name] != "" || theirKeys[name] != "" || packageKeys[name] != "" || slices.Contains(theirOthers, name)
}

// closing returns the index of the quote that ends raw, which begins with it, or -1.
func closing(raw string) int {
	for i := 1; i < len(raw); i++ {
		switch {
		case raw[i] == '\\' && raw[0] == '"':
			i++
		case raw[i] == raw[0]:
			return i
		}
	}
	return -1
}

// isOpen reports whether raw begins with a quote that it does not end.
func isOpen(raw string) bool {
	return raw != "" && (raw[0] == '"' || raw[0] == '\'') && closing(raw) < 0
}

// reference matches what a shell, and pesde's registry server, would replace.
var reference = regexp.MustCompile(`\$[A-Za-z_{(]`)

// unquote returns the value that raw stands for: as it is between single quotes; with \n, \", \\
// and \$ between double ones; else up to a comment.
func unquote(raw string) (string, error) {
	if isOpen(raw) {
		return "", errors.New("the quote does not end (value not shown): end it")
	}
	if raw == "" || raw[0] != '"' && raw[0] != '\'' {
		value, _, _ := strings.Cut(" "+raw, " #")
		return checkReference(strings.TrimSpace(value))
	}
	end := closing(raw)
	value, after := raw[1:end], strings.TrimSpace(raw[end+1:])
	switch {
	case after != "" && after[0] != '#':
		return "", errors.New("there is text after the quote (value not shown): put the whole value in quotes")
	case raw[0] == '\'':
		return value, nil
	}
	if _, err := checkReference(strings.NewReplacer(`\\`, "", `\$`, "").Replace(value)); err != nil {
		return "", err
	}
	return strings.NewReplacer(`\\`, `\`, `\$`, `$`, `\"`, `"`, `\n`, "\n").Replace(value), nil
}

// checkReference returns value, or an error if it refers to another variable.
func checkReference(value string) (string, error) {
	if reference.MatchString(value) {
		return "", errors.New("variables in values are not replaced (value not shown): put the value in single quotes if" +
			" the $ belongs to it, or write out what it stands for")
	}
	return value, nil
}

// environment returns the source of a variable for messages.
func (l *loader) environment(name string) string {
	if at := l.fromFile[name]; at != "" {
		return "environment " + name + " of " + at
	}
	return "environment " + name
}
