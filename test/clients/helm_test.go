package clients

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"path/filepath"
	"slices"
	"testing"

	"helm.sh/helm/v4/pkg/registry"
)

// chart returns a Helm chart that has nothing but its name and version.
func chart(t *testing.T, name, version string) []byte {
	t.Helper()
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	files := tar.NewWriter(zip)
	text := "apiVersion: v2\nname: " + name + "\nversion: " + version + "\n"
	err := files.WriteHeader(&tar.Header{Name: name + "/Chart.yaml", Mode: 0o644, Size: int64(len(text))})
	if err == nil {
		_, err = io.WriteString(files, text)
	}
	if err == nil {
		err = files.Close()
	}
	if err == nil {
		err = zip.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// helmLogsIn logs in, pushes, pulls and lists with the library of helm, as alice, who may do
// that below team. Its login asks for a token by POST.
func helmLogsIn(t *testing.T, addr string, alice account) {
	t.Helper()
	client := func(logins string) *registry.Client {
		file := filepath.Join(logins, "config.json")
		c, err := registry.NewClient(registry.ClientOptCredentialsFile(file), registry.ClientOptPlainHTTP(),
			registry.ClientOptWriter(io.Discard))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if err := client(t.TempDir()).Login(addr, registry.LoginOptBasicAuth(alice.name, "wrong")); err == nil {
		t.Error("helm: a wrong password is accepted")
	}
	nobody := t.TempDir()
	if _, err := client(nobody).Push(chart(t, "mast", "1.0.0"), addr+"/team/charts/mast:1.0.0"); err == nil {
		t.Error("helm: it pushes without a login")
	}

	logins := t.TempDir()
	if err := client(logins).Login(addr, registry.LoginOptBasicAuth(alice.name, alice.secret)); err != nil {
		t.Fatalf("helm: login: %v", err)
	}
	c := client(logins) // as the next command, which has the login from the file only
	if _, err := c.Push(chart(t, "mast", "1.0.0"), addr+"/team/charts/mast:1.0.0"); err != nil {
		t.Errorf("helm: push: %v", err)
	}
	if got, err := c.Pull(addr + "/team/charts/mast:1.0.0"); err != nil || got.Chart.Meta.Name != "mast" {
		t.Errorf("helm: pull: %+v, %v", got, err)
	}
	if tags, err := c.Tags(addr + "/team/charts/mast"); err != nil || !slices.Equal(tags, []string{"1.0.0"}) {
		t.Errorf("helm: tags %q, %v", tags, err)
	}
	if _, err := c.Push(chart(t, "mast", "1.0.0"), addr+"/other/charts/mast:1.0.0"); err == nil {
		t.Error("helm: it pushes where alice may not")
	}
	if _, err := client(nobody).Pull(addr + "/team/charts/mast:1.0.0"); err == nil {
		t.Error("helm: it pulls without a login")
	}
}
