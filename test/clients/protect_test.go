package clients

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// registryOf returns the address of the registry itself, which a system keeps from clients.
func registryOf(t *testing.T, s *system) string {
	t.Helper()
	settings, err := os.ReadFile(s.data + "/indexer.yaml")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^  url: "http://([^"]+)"`).FindSubmatch(settings)
	if m == nil {
		t.Fatalf("no registry.url in\n%s", settings)
	}
	return string(m[1])
}

const (
	isProtected = "denied: tags like v* of team/* are protected: they do not move and are not deleted: releases stay"
	isFrozen    = "denied: team/* is frozen: nothing is pushed to it or deleted from it: release week"
	// What the registry says when it is asked with a token for less: doc/manage.md has it.
	isDenied = "denied: requested access to the resource is denied"
)

// skopeoIsTold checks what skopeo prints when it changes what is protected, with our front, with the
// token alone, and without both. portbook runs a command of the indexer, and shell a line.
func skopeoIsTold(t *testing.T, s *system, who account, portbook func(args ...string), shell func(line string) (string, error)) {
	t.Helper()
	registry := registryOf(t, s)
	const copies = "skopeo copy -q --src-tls-verify=false --dest-tls-verify=false "
	creds := "'" + who.name + ":" + who.secret + "'"
	for _, line := range []string{
		copies + "docker://" + s.addr + "/samples/lighthouse:0.3.0 dir:one", copies + "docker://" + s.addr + "/samples/harbour:1.1 dir:two",
	} {
		if _, err := shell(line); err != nil {
			t.Fatal(err)
		}
	}
	push := func(from, address, reference string) string {
		return copies + "--dest-creds " + creds + " dir:" + from + " docker://" + address + "/team/" + reference
	}
	remove := func(reference string) string {
		return "skopeo delete --tls-verify=false --creds " + creds + " docker://" + s.addr + "/team/" + reference
	}
	shows := func() string {
		line := "skopeo inspect --raw --tls-verify=false --creds " + creds + " docker://" + registry + "/team/kept:v1"
		out, err := shell(line)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	try := func(line, says string) {
		t.Helper()
		_, err := shell(line)
		if works := says == ""; works != (err == nil) || !works && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v, want %q", line, err, says)
		}
	}
	images, n := []string{"one", "two"}, 0
	untilRefused := func(reference string) { // a process knows of a protection a second later at most
		eventually(t, func() error {
			n++
			if _, err := shell(push(images[n%2], s.addr, reference)); err == nil {
				return fmt.Errorf("%s can be moved", reference)
			}
			return nil
		})
	}
	portbook("protect", "add", "--reason", "'releases stay'", "'team/*'", "'v*'")
	untilRefused("kept:v0")
	try(push("one", s.addr, "kept:v1"), "")
	first := shows()
	try(push("one", s.addr, "kept:v1"), "")
	try(push("two", s.addr, "kept:latest"), "")
	try(push("two", s.addr, "kept:v1"), isProtected)
	eventually(t, func() error { // the book knows what v1 shows
		if _, err := shell(remove("kept:v1")); err == nil || !strings.Contains(err.Error(), strings.TrimPrefix(isProtected, "denied: ")) {
			return fmt.Errorf("skopeo delete of a protected tag: %w", err)
		}
		return nil
	})
	try(push("two", registry, "kept:v1"), "")
	eventually(t, func() error {
		if now := shows(); now != first {
			return fmt.Errorf("the tag shows %s, want %s", now, first)
		}
		return nil
	})
	portbook("freeze", "add", "--reason", "'release week'", "'team/*'")
	untilRefused("kept:latest")
	try(push("two", s.addr, "kept:latest"), isFrozen)
	try(push("two", registry, "kept:latest"), isDenied)
	try(remove("kept:latest"), strings.TrimPrefix(isFrozen, "denied: "))
	portbook("freeze", "remove", "'team/*'")
	eventually(t, func() error { // a process knows of that a second later at most, too
		_, err := shell(push("two", s.addr, "kept:latest"))
		return err
	})
}

// dockerIsTold returns lines for docker_run.sh, in which docker is logged in as ci: it is told the
// same.
func dockerIsTold(t *testing.T, s *system, token string) []string {
	image, registry := s.addr+"/team/kept", registryOf(t, s)
	told := func(reference, says string) string {
		return "docker tag " + s.addr + "/samples/harbour:1.1 " + reference + " && ! out=$(docker push " + reference + " 2>&1) && " +
			"echo \"$out\" | grep -qF '" + says + "' || { echo \"$out\" >&2; false; }"
	}
	portbook := "'" + s.data + "/bin/portbook' freeze --config '" + s.data + "/indexer.yaml' "
	t.Helper()
	return []string{
		told(image+":v1", isProtected),
		portbook + "add --reason 'release week' 'team/*'",
		"docker tag " + s.addr + "/samples/harbour:1.1 " + image + ":v2",
		"for n in 1 2 3 4 5 6 7 8 9; do docker push " + image + ":v2 >/dev/null 2>&1 || break; sleep .3; done",
		told(image+":v2", isFrozen),
		"printf %s " + token + " | docker login -u ci --password-stdin " + registry,
		told(registry+"/team/kept:v2", isDenied),
		portbook + "remove 'team/*'",
	}
}
