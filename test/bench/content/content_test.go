package content

import (
	"reflect"
	"testing"
)

// Figures of two runs are comparable only if both had the same images.
func TestSameImagesAgain(t *testing.T) {
	t.Parallel()
	few, many := Repositories(20), Repositories(200)
	if !reflect.DeepEqual(few, many[:20]) {
		t.Error("the first of many are not those of few")
	}
	if a, b := few[3].image(1, "amd64", true), many[3].image(1, "amd64", true); !reflect.DeepEqual(a, b) {
		t.Errorf("two images of one tag: %v and %v", a, b)
	}
	names := map[string]bool{}
	for _, p := range many {
		names[p.Name] = true
	}
	if len(names) != len(many) {
		t.Errorf("%d names of %d repositories", len(names), len(many))
	}
	if tagName(0) != FirstTag {
		t.Errorf("the first tag is %s, want %s", tagName(0), FirstTag)
	}
}
