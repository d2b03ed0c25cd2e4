package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

const (
	prefix    = "PORTBOOK_"
	fileEnv   = "PORTBOOK_CONFIG"
	thvPrefix = "THV_REGISTRY_DATABASE_" // the ToolHive registry server's
)

// Source has the sources of settings. Flags override the environment, which
// overrides the file, which overrides the defaults. Empty values are ignored, so a
// template may leave a value empty.
type Source struct {
	File    string            // path of a YAML file; empty: PORTBOOK_CONFIG, or no file
	Environ []string          // in the form of os.Environ
	Flags   map[string]string // values by name of the flag; "log-level" is the key log.level

	// Dir is the working directory, which data_dir is relative to, and whose file .env is read.
	// Empty: data_dir stays relative, and no such file is read.
	Dir string

	// OnlyDatabase makes registry.url optional, for commands that use only the database.
	OnlyDatabase bool

	// ForRegistry is for the command that writes the registry's configuration: it requires a
	// storage, and needs neither registry.url nor a database.
	ForRegistry bool
}

// Load reads and checks all settings. Its error has one line for each mistake, with
// its source and without secrets.
func Load(src Source) (Config, error) {
	c, _, err := load(src)
	return c, err
}

func load(src Source) (Config, *loader, error) {
	l := &loader{
		dir: src.Dir, onlyDatabase: src.OnlyDatabase, forRegistry: src.ForRegistry,
		keys: Keys(), set: map[string]setting{}, seen: map[string]string{}, fromFile: map[string]string{},
		env: map[string]string{}, effective: map[string]setting{},
	}
	for _, pair := range src.Environ {
		name, value, _ := strings.Cut(pair, "=")
		l.env[name] = value
	}
	l.readDotEnv()
	maps.DeleteFunc(l.env, func(name, value string) bool { return value == "" && pesdeKeys[name] == "" })
	if src.File == "" {
		src.File = l.env[fileEnv]
	}
	if src.File != "" && !l.readFile(src.File) {
		return Config{}, l, errors.Join(l.errs...) // its keys would be reported as missing
	}
	l.readEnv()
	for _, name := range slices.Sorted(maps.Keys(src.Flags)) {
		if k, ok := l.find(name, flat); ok {
			l.put(k, src.Flags[name], "flag --"+name)
		} else {
			l.fail("unknown flag --%s%s", name, nearest(name, l.names()))
		}
	}
	c, err := l.decode()
	if err != nil {
		return Config{}, l, err
	}
	l.check(&c)
	if len(l.errs) > 0 {
		return Config{}, l, errors.Join(l.errs...)
	}
	return c, l, nil
}

// A loader collects values from the sources. It does not use viper for that: viper
// does not know line numbers, reads `password: 0123` as 83, silently prefers the
// last of two spellings, and ignores variables of keys that are not in the file.
type loader struct {
	keys []Key
	set  map[string]setting // by name of the key
	seen map[string]string  // position of each key and section in the file, by folded path
	env  map[string]string
	errs []error

	fromFile map[string]string // position in .env of each variable in env that comes from there

	dir          string // the working directory
	onlyDatabase bool
	forRegistry  bool
	libpq        map[string]setting // by keyword, from all sources; set by checkConnection
	address      *pgconn.Config     // of the connection, without TLS and passwords of a pgpass file
	effective    map[string]setting // effective values of keys that differ from set
}

type setting struct {
	text   string
	origin string // "file portbook.yaml:12", "environment PGHOST", "flag --role"
}

func (l *loader) fail(format string, args ...any) {
	l.errs = append(l.errs, fmt.Errorf(format, args...))
}

// put sets the value of k. It is an error if two variables or two flags give
// different values.
func (l *loader) put(k Key, text, origin string) {
	if k.field.Tag.Get("secret") != "true" {
		text = strings.TrimSpace(text)
	}
	if text == "" {
		return
	}
	old := l.set[k.Name]
	kind, _, _ := strings.Cut(origin, " ")
	if strings.HasPrefix(old.origin, kind) && old.text != text {
		l.fail("%s is set twice, by %s and by %s: keep one", k.Name, old.origin, origin)
	}
	l.set[k.Name] = setting{text, origin}
}

func (l *loader) find(name string, same func(string) string) (Key, bool) {
	for theirs, ours := range theirNames {
		if same(theirs) == same(name) {
			name = ours
		}
	}
	i := slices.IndexFunc(l.keys, func(k Key) bool { return same(k.Name) == same(name) })
	if i < 0 {
		return Key{}, false
	}
	return l.keys[i], true
}

func (l *loader) names() []string {
	var names []string
	for _, k := range l.keys {
		names = append(names, k.Name)
	}
	return names
}

// isSection reports whether path is a section, which has keys.
func (l *loader) isSection(path string) bool {
	return isTheirSection(path) ||
		slices.ContainsFunc(l.keys, func(k Key) bool { return strings.HasPrefix(fold(k.Name), fold(path)+".") })
}

// readFile reads the values of a YAML file. It reports whether the file could be
// parsed; mistakes in its keys and values do not count.
func (l *loader) readFile(file string) bool {
	b, err := os.ReadFile(file)
	if err != nil {
		l.fail("configuration file: %w: check --config or %s", err, fileEnv)
		return false
	}
	var doc, more yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(b))
	err = dec.Decode(&doc)
	switch {
	case errors.Is(err, io.EOF): // only comments
		return true
	case err != nil && strings.Contains(err.Error(), "anchor"): // the name of an anchor may be a password
		l.fail("file %s: a value begins with * but names no anchor: put it in quotes", file)
		return false
	case err != nil:
		l.fail("file %s is not YAML: %w", file, err)
		return false
	case !errors.Is(dec.Decode(&more), io.EOF):
		l.fail("file %s contains more than one YAML document: keep one", file)
		return false
	}
	if root := doc.Content[0]; root.Kind == yaml.MappingNode {
		l.readSection(file, "", root)
	} else if root.Tag != "!!null" {
		l.fail("file %s:%d: not a mapping: write keys such as registry.url", file, root.Line)
	}
	return true
}

// readSection reads the keys below path. It descends only into known sections, so
// deep nesting and aliases cost nothing.
func (l *loader) readSection(file, path string, n *yaml.Node) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := path+n.Content[i].Value, n.Content[i+1]
		if value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		origin := fmt.Sprintf("file %s:%d", file, n.Content[i].Line)
		k, known := l.find(name, fold)
		if before, twice := l.seen[fold(name)]; twice {
			l.fail("%s is set twice in the file, as %s and as %s (%s): keep one", name, before, n.Content[i].Value, origin)
			continue
		}
		l.seen[fold(name)] = fmt.Sprintf("%s (%s)", n.Content[i].Value, origin)
		switch {
		case !known && l.isTheirs(name, value.Value, origin, fold):
		case !known && !l.isSection(name):
			l.fail("unknown key %q (%s)%s", name, origin, nearest(name, l.namesAndSections()))
		case value.Value == "" && value.Kind == yaml.ScalarNode && (value.Anchor != "" || !strings.HasPrefix(value.Tag, "!!")):
			// To YAML this is an anchor or a tag.
			l.fail("the value of %s begins with & or ! (%s): put it in quotes", name, origin)
		case value.Tag == "!!null": // a key without a value is ignored
		case !known && value.Kind == yaml.MappingNode:
			l.readSection(file, name+".", value)
		case !known:
			l.fail("%s is a section (%s): write its keys below it, one on each line, indented", name, origin)
		default:
			l.readValue(k, value, origin)
		}
	}
}

func (l *loader) namesAndSections() []string {
	names := l.names()
	for _, k := range l.keys {
		if i := strings.LastIndexByte(k.Name, '.'); i > 0 && !slices.Contains(names, k.Name[:i]) {
			names = append(names, k.Name[:i])
		}
	}
	return names
}

// readValue reads a scalar as it is written, whatever its YAML type, or a list of
// scalars if k is a list.
func (l *loader) readValue(k Key, n *yaml.Node, origin string) {
	scalar := func(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode }
	_, isList := k.in(new(Config)).Interface().([]string)
	switch {
	case scalar(n):
		l.put(k, n.Value, origin)
	case isList && n.Kind == yaml.SequenceNode && !slices.ContainsFunc(n.Content, func(n *yaml.Node) bool { return !scalar(n) }):
		var items []string
		for _, item := range n.Content {
			items = append(items, item.Value)
		}
		l.put(k, strings.Join(items, ","), origin)
	default:
		l.fail("%s must be one value, not a mapping or list (%s): put it in quotes if it contains { or [", k.Name, origin)
	}
}

// serviceLink matches variables that Kubernetes and Docker set in each container
// for a service with a name that begins with portbook: PORTBOOK_SERVICE_HOST,
// PORTBOOK_PORT_8080_TCP_ADDR, and PORTBOOK_DATABASE_PORT=tcp://10.0.0.9:5432.
// https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
var serviceLink = regexp.MustCompile(`^[A-Z0-9_]*(_SERVICE_HOST|_SERVICE_PORT(_[A-Z0-9_]+)?|_PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)=|^[A-Z0-9_]*_PORT=(tcp|udp|sctp)://`)

func (l *loader) readEnv() {
	for _, name := range slices.Sorted(maps.Keys(l.env)) {
		value, origin := l.env[name], l.environment(name)
		path, ours := strings.CutPrefix(name, prefix)
		switch {
		case name == "DB_URL", name == "DATABASE_URL":
			k, _ := l.find("database.postgres.url", fold)
			if old := l.set[k.Name]; strings.HasPrefix(old.origin, "file ") && old.text != strings.TrimSpace(value) {
				l.fail("%s is set by %s and by %s: keep one", k.Name, old.origin, origin)
			}
			l.put(k, value, origin)
			continue
		case theirKeys[name] != "":
			path = theirKeys[name]
		case packageKeys[name] != "":
			path = packageKeys[name]
		case pesdeKeys[name] != "":
			l.putPesde(name, value)
			continue
		case strings.HasPrefix(name, thvPrefix):
			path = "database" + strings.TrimPrefix(name, thvPrefix)
		case !ours, name == fileEnv, strings.HasPrefix(path, "TEST_"), serviceLink.MatchString(name + "=" + value):
			continue
		}
		if k, ok := l.find(path, flat); ok {
			l.put(k, value, origin)
			continue
		}
		if l.isTheirs(path, value, origin, flat) {
			continue
		}
		var names []string
		for _, k := range l.keys {
			names = append(names, k.Env())
		}
		l.fail("unknown %s%s", strings.Replace(origin, "environment", "environment variable", 1), nearest(name, names))
	}
	l.putAddress()
}

// decode returns a Config of the values and the defaults. It reports a value that
// cannot be parsed, and uses the default instead.
func (l *loader) decode() (Config, error) {
	v := viper.New()
	for _, k := range l.keys {
		if k.Default != "" {
			value, err := k.parse(k.Default)
			if err != nil {
				return Config{}, fmt.Errorf("default of %w", err)
			}
			v.SetDefault(k.Name, value)
		}
		if s, ok := l.set[k.Name]; ok {
			value, err := k.parse(s.text)
			if err != nil {
				l.fail("%w (%s)", err, s.origin)
				continue
			}
			v.Set(k.Name, value)
		}
	}
	var c Config
	return c, v.UnmarshalExact(&c, viper.DecodeHook(mapstructure.TextUnmarshallerHookFunc()))
}
