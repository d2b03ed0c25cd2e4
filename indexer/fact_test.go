package indexer_test

import (
	"slices"
	"testing"

	"github.com/portbook/portbook/indexer"
)

func TestFact(t *testing.T) {
	t.Parallel()
	for fact, want := range map[indexer.Fact]struct {
		kind  indexer.FactKind
		value string
	}{
		"platform:linux/arm64":  {indexer.FactPlatform, "linux/arm64"},
		"label:a:b":             {indexer.FactLabel, "a:b"},
		indexer.HasSBOM:         {indexer.FactHas, "sbom"},
		indexer.IsMultiarch:     {indexer.FactIs, "multiarch"},
		"licence:":              {indexer.FactLicence, ""},
		"type:application/json": {indexer.FactType, "application/json"},
	} {
		if fact.Kind() != want.kind || fact.Value() != want.value || want.kind.Fact(want.value) != fact {
			t.Errorf("%s is of kind %q with the value %q, want %+v", fact, fact.Kind(), fact.Value(), want)
		}
		if !slices.Contains(indexer.FactKinds(), fact.Kind()) {
			t.Errorf("%s is of an unknown kind", fact)
		}
	}
}

func TestFactValues(t *testing.T) {
	t.Parallel()
	facts := []indexer.Fact{"os:linux", "platform:linux/arm", "platform:linux/arm/v7", "os:windows"}
	if got := indexer.FactOS.Values(facts); !slices.Equal(got, []string{"linux", "windows"}) {
		t.Errorf("the values of os are %q", got)
	}
	if got := indexer.FactHas.Values(facts); got != nil {
		t.Errorf("the values of has are %q, want none", got)
	}
}
