package catalogue

import (
	"encoding/json"
	"strings"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web/answer"
)

// A configView is what an image config says about running the image.
type configView struct {
	Lines []pair // each on one line
	Env   []string
}

func viewConfig(c indexer.ImageConfig) (v configView) {
	for _, line := range []pair{
		{"User", c.User},
		{"Working directory", c.WorkingDir},
		{"Entrypoint", words(c.Entrypoint)},
		{"Command", words(c.Command)},
		{"Ports", strings.Join(answer.First(c.Ports), ", ")},
		{"Volumes", strings.Join(answer.First(c.Volumes), ", ")},
		{"Stop signal", c.StopSignal},
	} {
		if line.Value != "" {
			v.Lines = append(v.Lines, pair{line.Key, answer.Cut(line.Value, answer.MaxValue)})
		}
	}
	for _, e := range answer.First(c.Env) {
		v.Env = append(v.Env, answer.Cut(e, answer.MaxValue))
	}
	return v
}

// words returns a command line as JSON, because a space within a word would otherwise
// look like a separator.
func words(list []string) string {
	if len(list) == 0 {
		return ""
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // the template escapes
	_ = e.Encode(answer.First(list))
	return strings.TrimSpace(b.String())
}
