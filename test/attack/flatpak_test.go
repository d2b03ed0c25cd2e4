package attack

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// firefox is the ref that flathub/firefox was the first to have.
const firefox = "app/org.mozilla.firefox/x86_64/stable"

// flatpakLabels returns the labels of a flatpak; description is a size in bytes.
func flatpakLabels(ref string, description int) map[string]string {
	return map[string]string{
		"org.flatpak.ref":                   ref,
		"org.flatpak.metadata":              "[Application]\nname=" + ref,
		"org.freedesktop.appstream.appdata": strings.Repeat("<p>much to say</p>", description/18),
	}
}

// ownersOf returns the repositories whose images an answer with flatpak's index offers
// for a ref, in order.
func ownersOf(body []byte, ref string) []string {
	type image struct{ Labels map[string]string }
	var index struct {
		Results []struct {
			Name   string
			Images []image
			Lists  []struct{ Images []image }
		}
	}
	if json.Unmarshal(body, &index) != nil {
		return nil
	}
	var owners []string
	for _, r := range index.Results {
		images := r.Images
		for _, l := range r.Lists {
			images = append(images, l.Images...)
		}
		if slices.ContainsFunc(images, func(i image) bool { return i.Labels["org.flatpak.ref"] == ref }) {
			owners = append(owners, r.Name)
		}
	}
	return owners
}

// writeFile writes a file and the directories that it needs.
func writeFile(name, content string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, []byte(content), 0o644)
}
