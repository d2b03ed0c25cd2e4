package main

import (
	"fmt"
	"strings"
)

// byFacets narrows the catalogue to a team, then to an architecture, and goes back. Each
// list must have as many repositories as its facet said, and as many on the way back.
func (c *checker) byFacets(t *tab) error {
	if _, err := t.open(c.url + "/"); err != nil {
		return err
	}
	const team, both = "/?q=namespace%3Apayments", "/?q=arch%3Aarm64+namespace%3Apayments"
	was := map[string]int{} // the number of repositories by address
	for _, step := range []struct {
		facet, to string
		chosen    bool // then
	}{
		{"payments", team, true}, {"arm64", both, true}, {"arm64", team, false}, {"payments", "/", false},
	} {
		before, err := t.facet(step.facet)
		if err != nil {
			return err
		}
		was[t.where()] = before.Total
		link, want := step.facet, before.Promised
		if !step.chosen {
			link, want = "✓ "+step.facet, was[step.to]
		}
		if err := t.follow("link", link, step.to); err != nil {
			return err
		}
		after, err := t.facet(step.facet)
		if err != nil {
			return err
		}
		if after.Total != want || after.Chosen != step.chosen {
			return fmt.Errorf("%s: got %d repositories and %s chosen: %t, want %d and %t", step.to, after.Total, step.facet, after.Chosen, want, step.chosen)
		}
		if step.to != "/" {
			if err := after.lists("payments/"); err != nil {
				return fmt.Errorf("%s: %w", step.to, err)
			}
		}
	}
	return nil
}

// A facet is the state of a list of repositories and of one of its facets.
type facet struct {
	Total    int      // the number of repositories that the page states
	Names    []string // the repositories that it shows
	Chosen   bool
	Promised int // the number beside the facet; 0 if the facet is chosen
}

// lists fails unless all repositories are shown and belong to the namespace.
func (f facet) lists(namespace string) error {
	if len(f.Names) != f.Total {
		return fmt.Errorf("got %d repositories, want %d", len(f.Names), f.Total)
	}
	for _, name := range f.Names {
		if !strings.HasPrefix(name, namespace) {
			return fmt.Errorf("got %s, want only repositories of %s", name, namespace)
		}
	}
	return nil
}

const readFacet = `(name => {
	const facet = [...document.querySelectorAll("#facets a")].find(a => a.textContent === name);
	return {
		Total: parseInt(document.querySelector(".count").textContent),
		Names: [...document.querySelectorAll(".repositories .name a")].map(a => a.textContent),
		Chosen: facet.ariaCurrent === "true",
		Promised: facet.nextElementSibling ? parseInt(facet.nextElementSibling.textContent) : 0,
	};
})`

func (t *tab) facet(name string) (facet, error) {
	f, err := evaluate[facet](t, fmt.Sprintf("%s(%q)", readFacet, name))
	if err != nil {
		err = fmt.Errorf("%s: facet %s: %w", t.where(), name, err)
	}
	return f, err
}
