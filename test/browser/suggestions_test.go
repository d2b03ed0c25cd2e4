package main

import (
	"fmt"

	"github.com/chromedp/chromedp/kb"
)

const (
	suggested = `document.querySelector("#suggestions[role=listbox]:not([hidden]) [role=option]") !== null`
	closed    = `document.querySelector("#suggestions").hidden`
)

// maxSuggestions is the number of suggestions that app.js requests.
const maxSuggestions = 8

// bySuggestions types the beginning of a name, selects a suggestion and leaves it with
// Escape. That must restore all that was typed, including a last letter for which no
// suggestions were requested yet. Then it selects a suggestion and opens it.
func (c *checker) bySuggestions(t *tab) error {
	if _, err := t.open(c.url + "/"); err != nil {
		return err
	}
	box, err := t.searchBox()
	if err != nil {
		return err
	}
	if err := t.typeInto(box, "harb"); err != nil {
		return err
	}
	if err := t.until(suggested); err != nil {
		return err
	}
	if err := t.do(keys("o" + kb.ArrowDown)); err != nil {
		return err
	}
	if err := t.escape("harbo"); err != nil {
		return err
	}
	if err := t.suggestion(box, "u", "samples/harbour"); err != nil {
		return err
	}
	if err := t.escape("harbou"); err != nil {
		return err
	}
	if err := t.suggestion(box, "r", "samples/harbour"); err != nil {
		return err
	}
	if err := t.leave(keys(kb.Enter)); err != nil {
		return err
	}
	return t.at("/r/samples/harbour")
}

// escape closes the suggestions. The box must then have what was typed.
func (t *tab) escape(typed string) error {
	if err := t.do(keys(kb.Escape)); err != nil {
		return err
	}
	box, err := evaluate[string](t, "search.value")
	if err == nil && box != typed {
		err = fmt.Errorf("%s: Escape leaves %q in the box, want %q", t.where(), box, typed)
	}
	if err != nil {
		return err
	}
	return t.until(closed)
}

// suggestion types, waits for suggestions and goes down to one. It must then be selected
// and in the box.
func (t *tab) suggestion(box element, text, name string) error {
	if err := t.typeInto(box, text); err != nil {
		return err
	}
	if err := t.until(suggested); err != nil {
		return err
	}
	for range maxSuggestions {
		if err := t.do(keys(kb.ArrowDown)); err != nil {
			return err
		}
		selected, err := evaluate[string](t, `document.querySelector("#suggestions [aria-selected=true]")?.textContent ?? ""`)
		if err != nil {
			return err
		}
		if selected == name {
			return t.until(fmt.Sprintf("search.value === %q", name))
		}
	}
	return fmt.Errorf("%s: pressing Down %d times does not reach %s", t.where(), maxSuggestions, name)
}
