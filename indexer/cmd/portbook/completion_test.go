package main_test

import (
	"strings"
	"testing"
)

func TestCompletionScripts(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		out, code := indexerCommand(t, nil, "completion", shell)
		if code != 0 || !strings.Contains(out, "portbook __complete") && !strings.Contains(out, "__portbook") {
			t.Errorf("portbook completion %s: exit status %d, want 0 and a script:\n%s", shell, code, out)
		}
	}
}
