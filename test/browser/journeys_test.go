package main

import (
	"errors"
	"fmt"
	"testing"

	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/chromedp/kb"
)

// maxTabs is the maximum number of presses of Tab to reach an element.
const maxTabs = 100

// journeys are sequences of actions of a visitor. They find elements by role and name,
// as assistive technology does.
func (c *checker) journeys(t *testing.T) {
	for _, j := range []struct {
		name string
		look look
		way  func(*tab) error
	}{
		{"search to tag", look{width: 1280}, c.searchToTag},
		{"search to tag without script", look{width: 1280, noScript: true}, c.searchToTag},
		{"search to tag on a phone at night", look{width: 320, dark: true}, c.searchToTag},
		{"by keys alone", look{width: 1280}, c.byKeys},
		{"by keys alone without script", look{width: 1280, noScript: true}, c.byKeys},
		{"through all tags", look{width: 1280}, c.throughTags},
		{"through all tags without script", look{width: 320, noScript: true}, c.throughTags},
		{"back from nowhere", look{width: 1280}, c.backFromNowhere},
		{"by facets", look{width: 1280}, c.byFacets},
		{"by facets on a phone without script", look{width: 320, noScript: true}, c.byFacets},
		{"copying a command", look{width: 1280}, c.copying},
		{"copying nothing without script", look{width: 320, noScript: true}, c.withoutScript},
		{"comparing two tags", look{width: 1280}, c.comparing},
		{"comparing two tags without script", look{width: 1280, noScript: true}, c.comparing},
		{"by suggestions", look{width: 1280}, c.bySuggestions},
		{"managing by keys alone", look{width: 1280}, c.managing},
		{"managing by keys alone on a phone without script", look{width: 320, noScript: true}, c.managing},
	} {
		t.Run(j.name, func(t *testing.T) {
			t.Parallel()
			tab, err := newTab(c.browser)
			if err != nil {
				t.Fatal(err)
			}
			defer tab.close()
			if err := errors.Join(tab.as(j.look), tab.inFront()); err != nil {
				t.Fatal(err)
			}
			if err := j.way(tab); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// searchToTag types a word, opens what it finds and then a tag of it.
func (c *checker) searchToTag(t *tab) error {
	if _, err := t.open(c.url + "/"); err != nil {
		return err
	}
	box, err := t.searchBox()
	if err != nil {
		return err
	}
	if err := t.typeInto(box, "two piers"); err != nil {
		return err
	}
	if err := t.leave(keys(kb.Enter)); err != nil {
		return err
	}
	if err := t.at("/?q=two+piers"); err != nil {
		return err
	}
	for _, step := range []struct{ link, to string }{
		{"samples/harbour", "/r/samples/harbour"},
		{"1.1", "/r/samples/harbour:1.1"},
	} {
		if err := t.follow("link", step.link, step.to); err != nil {
			return err
		}
	}
	return t.hasText("docker pull")
}

// byKeys does the same with Tab and Enter. The focus must always be visible.
func (c *checker) byKeys(t *tab) error {
	if _, err := t.open(c.url + "/"); err != nil {
		return err
	}
	box, err := t.searchBox()
	if err != nil {
		return err
	}
	if err := t.tabTo(box.role, box.name); err != nil {
		return err
	}
	if err := t.do(keys("two piers")); err != nil {
		return err
	}
	for _, step := range []struct{ link, to string }{
		{"", "/?q=two+piers"},
		{"samples/harbour", "/r/samples/harbour"},
		{"1.1", "/r/samples/harbour:1.1"},
	} {
		if step.link != "" {
			if err := t.tabTo("link", step.link); err != nil {
				return err
			}
		}
		if err := t.leave(keys(kb.Enter)); err != nil {
			return err
		}
		if err := t.at(step.to); err != nil {
			return err
		}
	}
	return t.hasText("docker pull")
}

// throughTags follows the link to the next page to the end, and must see every tag that
// it looks for.
func (c *checker) throughTags(t *tab) error {
	if _, err := t.open(c.url + "/r/archive/nightly"); err != nil {
		return err
	}
	seen := map[string]bool{}
	for range 10 {
		links, err := t.elements("link")
		if err != nil {
			return err
		}
		for _, l := range links {
			seen[l.name] = true
		}
		next, err := t.next()
		if err != nil {
			return err
		}
		if next.node != 0 {
			if err := t.click(next); err != nil {
				return err
			}
			continue
		}
		for build := range 13 {
			for _, tag := range []string{fmt.Sprintf("2.%d", build), fmt.Sprintf("2.%d.9", build)} {
				if !seen[tag] {
					return fmt.Errorf("no page has the tag %s", tag)
				}
			}
		}
		return nil
	}
	return fmt.Errorf("130 tags need more than 10 pages; now at %s", t.where())
}

// backFromNowhere goes from an error page to the catalogue.
func (c *checker) backFromNowhere(t *tab) error {
	if _, err := t.open(c.url + "/nowhere"); err != nil {
		return err
	}
	return t.follow("link", "catalogue", "/")
}

// follow clicks the element with a role and a name, which must open an address.
func (t *tab) follow(role, name, to string) error {
	e, err := t.element(role, name)
	if err != nil {
		return err
	}
	if err := t.click(e); err != nil {
		return err
	}
	return t.at(to)
}

// searchBox returns the search box of the page.
func (t *tab) searchBox() (element, error) {
	list, err := t.elements("search")
	if err != nil {
		return element{}, err
	}
	if len(list) != 1 {
		return element{}, fmt.Errorf("%s: got %d search landmarks, want 1", t.where(), len(list))
	}
	boxes, err := t.elements("searchbox")
	if err != nil {
		return element{}, err
	}
	if len(boxes) == 0 { // a box with suggestions has another role
		boxes, err = t.elements("combobox")
	}
	if len(boxes) != 1 && err == nil {
		err = fmt.Errorf("%s: got %d search boxes, want 1", t.where(), len(boxes))
	}
	if err != nil {
		return element{}, err
	}
	return boxes[0], nil
}

// next returns the link to the next page. Its node is 0 if there is none.
func (t *tab) next() (element, error) {
	link, err := t.object(`document.querySelector("a[rel~=next]")`)
	if err != nil || link == "" {
		return element{}, err
	}
	described, err := call(t, dom.DescribeNode, dom.DescribeNodeParams{ObjectID: link})
	if err != nil {
		return element{}, err
	}
	return element{role: "link", name: "next", node: described.Node.BackendNodeID}, nil
}

// focusShown reports whether the focus is visible.
const focusShown = `(() => {
	const style = getComputedStyle(document.activeElement), box = document.activeElement.getBoundingClientRect();
	const ring = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1 || style.boxShadow !== "none";
	return document.activeElement.matches(":focus-visible") && ring && box.bottom > 0 && box.top < innerHeight;
})()`

// tabTo presses Tab until the element with a role and a name has the focus. The focus
// must be visible at each step.
func (t *tab) tabTo(role, name string) error {
	for range maxTabs {
		if err := t.do(keys(kb.Tab)); err != nil {
			return err
		}
		e, err := t.focused()
		if err != nil {
			return err
		}
		shown, err := evaluate[bool](t, focusShown)
		if err != nil {
			return err
		}
		if !shown {
			return fmt.Errorf("%s: the focus on %s %q is not visible", t.where(), e.role, e.name)
		}
		if e.role == role && e.name == name {
			return nil
		}
	}
	return fmt.Errorf("%s: pressing Tab %d times does not reach %s %q", t.where(), maxTabs, role, name)
}
