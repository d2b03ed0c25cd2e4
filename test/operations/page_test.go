package operations

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// page is the file of the handbook.
const page = "../../doc/operations.md"

// A block is a block of commands of the page, with a comment before it:
//
//	<!-- run tls on primary -->
//	```sh
//	openssl ...
//	```
type block struct {
	name, on string // such as tls, primary
	line     int
	text     string
}

var (
	runComment = regexp.MustCompile(`^<!-- run ([a-z]+) on (primary|standby|indexer) -->$`)
	assignment = regexp.MustCompile(`\b([A-Z]+)=`)
)

// read returns the blocks in order, and the variables that the page sets first.
func read(t *testing.T) (blocks []block, names map[string]bool) {
	t.Helper()
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	blocks, names, err = parse(string(content))
	if err != nil {
		t.Fatalf("%s: %v", page, err)
	}
	return blocks, names
}

// parse returns the blocks and variables of content. It fails if a block of commands
// has no comment, so that no block is forgotten.
func parse(content string) (blocks []block, names map[string]bool, err error) {
	names = map[string]bool{}
	lines := strings.Split(content, "\n")
	seen := map[string]bool{}
	for i := 0; i < len(lines); i++ {
		if lines[i] != "```sh" {
			continue
		}
		end := i + 1
		for end < len(lines) && lines[end] != "```" {
			end++
		}
		if end == len(lines) {
			return nil, nil, fmt.Errorf("line %d: the block does not end", i+1)
		}
		text := strings.Join(lines[i+1:end], "\n") + "\n"
		switch m := runComment.FindStringSubmatch(lines[max(i-1, 0)]); {
		case lines[max(i-1, 0)] == "<!-- names -->":
			for _, m := range assignment.FindAllStringSubmatch(text, -1) {
				names[m[1]] = true
			}
		case m == nil:
			return nil, nil, fmt.Errorf("line %d: the block has no <!-- run NAME on MACHINE --> before it", i+1)
		case seen[m[1]]:
			return nil, nil, fmt.Errorf("line %d: a second block has the name %s", i+1, m[1])
		default:
			seen[m[1]] = true
			blocks = append(blocks, block{name: m[1], on: m[2], line: i + 2, text: text})
		}
		i = end
	}
	return blocks, names, nil
}

func TestParse(t *testing.T) {
	t.Parallel()
	blocks, names, err := parse("<!-- names -->\n```sh\nA=1 B=2  # C\n```\ntext\n```\nno commands\n```\n<!-- run one on standby -->\n```sh\nfirst\nsecond\n```\n")
	if err != nil || len(blocks) != 1 || blocks[0] != (block{"one", "standby", 11, "first\nsecond\n"}) {
		t.Errorf("got blocks %v, %v", blocks, err)
	}
	if len(names) != 2 || !names["A"] || !names["B"] {
		t.Errorf("got names %v, want A and B", names)
	}
	for what, content := range map[string]string{
		"has no":   "text\n```sh\nls\n```\n",
		"not end":  "<!-- run one on primary -->\n```sh\nls\n",
		"a second": "<!-- run one on primary -->\n```sh\nls\n```\n<!-- run one on primary -->\n```sh\nls\n```\n",
	} {
		if _, _, err := parse(content); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("parse(%q): got %v, want an error with %q", content, err, what)
		}
	}
}
