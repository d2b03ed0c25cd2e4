package config

import (
	"path/filepath"
	"strings"
)

// checkDataDir replaces {CWD} in data_dir and makes it absolute. The folder need not exist: the
// part of the program that first needs it makes it.
func (l *loader) checkDataDir(c *Config) {
	const name, cwd = "data_dir", "{CWD}"
	rest := strings.ReplaceAll(c.DataDir, cwd, "")
	if strings.ContainsAny(rest, "{}") {
		l.fail("%s: %s has braces that are not {CWD}, the working directory: write the path%s", name, shown(c.DataDir),
			l.at(name))
		return
	}
	dir := filepath.Clean(strings.ReplaceAll(c.DataDir, cwd, filepath.Join(l.dir, ".")))
	if l.dir != "" && !filepath.IsAbs(dir) {
		dir = filepath.Join(l.dir, dir)
	}
	c.DataDir = dir
	origin := "default"
	if s, set := l.set[name]; set {
		origin = s.origin
	}
	l.effective[name] = setting{dir, origin}
}
