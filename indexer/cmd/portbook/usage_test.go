package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// commands returns a command and all commands below it.
func commands(command *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{command}
	for _, sub := range command.Commands() {
		all = append(all, commands(sub)...)
	}
	return all
}

// paths returns the command lines of all commands, without "portbook".
func paths(t *testing.T) (lines [][]string) {
	t.Helper()
	for _, command := range commands(root()) {
		lines = append(lines, strings.Fields(command.CommandPath())[1:])
	}
	if len(lines) < 15 {
		t.Fatalf("got %d commands: %q", len(lines), lines)
	}
	return lines
}

// execute runs a command line in this process.
func execute(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errors bytes.Buffer
	command := root()
	command.SetArgs(arguments(args))
	command.SetOut(&out)
	command.SetErr(&errors)
	code = status(command.ExecuteContext(t.Context()), &errors)
	return code, out.String(), errors.String()
}

// Each line of an example that begins with portbook must be a valid command line of the
// command or of one of its subcommands.
func TestExamples(t *testing.T) {
	t.Parallel()
	for _, shown := range commands(root()) {
		if shown.Example == "" {
			t.Errorf("%s has no example", shown.CommandPath())
		}
		found := 0
		for line := range strings.Lines(shown.Example) {
			if !strings.HasPrefix(line, "  ") {
				t.Errorf("%s: the example %q is not indented by two spaces", shown.CommandPath(), line)
			}
			args := exampleArguments(line)
			command, rest, err := root().Find(args)
			if err == nil {
				err = command.ParseFlags(rest)
			}
			if err == nil {
				err = command.Args(command, command.Flags().Args())
			}
			if err != nil {
				t.Errorf("%s: the example %q: %v", shown.CommandPath(), line, err)
			}
			if strings.HasPrefix(command.CommandPath(), shown.CommandPath()) {
				found++
			}
		}
		if found == 0 {
			t.Errorf("%s: no example runs the command: %s", shown.CommandPath(), shown.Example)
		}
	}
}

// exampleArguments returns the arguments of portbook in a line of shell.
func exampleArguments(line string) (args []string) {
	_, after, _ := strings.Cut(line, "portbook ")
	for _, word := range regexp.MustCompile(`'[^']*'|[^\s']+`).FindAllString(after, -1) {
		if strings.ContainsAny(word[:1], "<>|") {
			break
		}
		args = append(args, strings.Trim(word, "'"))
	}
	return args
}

func TestHelp(t *testing.T) {
	t.Parallel()
	for _, path := range paths(t) {
		for _, line := range [][]string{append(path, "--help"), append([]string{"help"}, path...)} {
			code, out, errors := execute(t, line...)
			if code != 0 || errors != "" || !strings.Contains(out, "Usage:\n  portbook") || !strings.Contains(out, "Examples:\n  ") {
				t.Errorf("portbook %q: exit status %d, want 0, a usage and an example:\n%s%s", line, code, out, errors)
			}
		}
	}
}

// With wrong usage, every command must end with status 2 and one line that names the
// remedy.
func TestWrongUsage(t *testing.T) {
	t.Parallel()
	for _, path := range paths(t) {
		for _, wrong := range [][]string{{"--no-such-flag"}, {"--no-such\nflag"}, {"-Z"}, {"no-such-argument", "another", "third"}} {
			refuses(t, append(path, wrong...), "--help`\n")
		}
	}
	for line, says := range map[string]string{
		"serv":                             `portbook has no command "serv" (did you mean serve or user?); see`,
		"migrate statsu":                   "(did you mean status?)",
		"config chek":                      "(did you mean check?)",
		"help migrate no-such":             `portbook migrate has no command "no-such"`,
		"serve --config":                   "flag needs an argument: --config; see `portbook serve --help`",
		"-config":                          "flag needs an argument: --config",
		"migrate down --num-steps x":       `invalid argument "x"`,
		"migrate down":                     "--num-steps flag is required",
		"prime-db":                         "run portbook prime-db USER",
		"prime-db a b":                     "got 2",
		"prime-db --reader --migration a":  "[migration reader] were all set",
		"user add Alice":                   "is not a name of an account or a group",
		"user add everybody":               "because it means something else",
		"user set alice":                   "at least one of the flags",
		"user set --group a --no-groups b": "[group no-groups] were all set",
		"grant add alice team/*":           "write a pattern of repositories, a colon and actions",
		"grant add group: team/*:pull":     "is not a name of an account or a group",
		"token revoke pbt_abc":             "write the id of the token",
		"keys rotate":                      "takes one file",
		"version --config portbook.yaml x": `portbook version takes no argument, and got "x"`,
	} {
		refuses(t, strings.Fields(line), says)
	}
}

// refuses fails the test unless a command line ends with status 2 and a
// one-line error.
func refuses(t *testing.T, line []string, says string) {
	t.Helper()
	code, out, errors := execute(t, line...)
	if code != 2 || out != "" || strings.Count(errors, "\n") != 1 || !strings.HasPrefix(errors, "portbook: ") || !strings.Contains(errors, says) {
		t.Errorf("portbook %q: exit status %d, want 2 and one line with %q on standard error alone; got %q and %q", line, code, says, errors, out)
	}
}

// A command that fails with a valid command line must end with status 1.
func TestFailedWork(t *testing.T) {
	t.Parallel()
	absent := t.TempDir() + "/absent.yaml"
	for _, line := range []string{"serve", "scan", "verify", "migrate up", "migrate down -n 1", "migrate status", "prime-db user", "config check"} {
		code, out, errors := execute(t, append(strings.Fields(line), "--config", absent)...)
		if code != 1 || out != "" || !strings.Contains(errors, "absent.yaml") || strings.Contains(errors, "--help") {
			t.Errorf("portbook %s: exit status %d, want 1 and the name of the missing file; got %q and %q", line, code, errors, out)
		}
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	want := "portbook version " + programVersion() + "\n"
	for _, line := range []string{"version", "--version", "-v"} {
		if code, out, errors := execute(t, line); code != 0 || out != want || errors != "" {
			t.Errorf("portbook %s: exit status %d, %q and %q, want 0 and %q", line, code, out, errors, want)
		}
	}
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"migrate d":        "down\t",
		"serve --role w":   "writer\n",
		"scan --log-level": "--log-level\t",
	} {
		if _, out, _ := execute(t, append([]string{"__complete"}, strings.Fields(line)...)...); !strings.HasPrefix(out, want) {
			t.Errorf("portbook %s is completed with %q, want %q", line, out, want)
		}
	}
}
