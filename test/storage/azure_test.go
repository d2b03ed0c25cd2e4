package storage

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/portbook/portbook/registry/registrytest"
)

// azureKey is the key that the emulator of Azure is given.
const azureKey = "c2VjcmV0IG9mIHRoZSBjb250YWluZXI="

// The container has what is pushed. Azure's emulator is not a Go module, so it must be installed:
// npm install -g azurite.
func TestAzure(t *testing.T) {
	t.Parallel()
	azurite, err := exec.LookPath("azurite-blob")
	if err != nil {
		t.Skip("azurite-blob is not installed (npm install -g azurite)")
	}
	addr := registrytest.FreeAddr(t)
	host, port, _ := net.SplitHostPort(addr)
	cmd := exec.Command(azurite, "--blobHost", host, "--blobPort", port, "--location", t.TempDir(), "--skipApiVersionCheck",
		"--silent")
	cmd.Env = append(os.Environ(), "AZURITE_ACCOUNTS=account:"+azureKey)
	server(t, addr, cmd)
	service := "http://" + addr + "/account"
	settings := []string{
		"PORTBOOK_STORAGE_AZURE_ACCOUNTNAME=account", "PORTBOOK_STORAGE_AZURE_ACCOUNTKEY=" + azureKey,
		"PORTBOOK_STORAGE_AZURE_CONTAINER=" + bucket, "PORTBOOK_STORAGE_AZURE_SERVICEURL=" + service,
		"PORTBOOK_STORAGE_REDIRECT_DISABLE=true", // the registry signs addresses for https only, and the emulator has none
	}
	makeContainer(t, service)
	if to := check(t, start(t, settings)); to != "" {
		t.Errorf("a blob is redirected to %s", to)
	}
}

// makeContainer makes the container, with a request signed by the account's key:
// https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key
func makeContainer(t *testing.T, service string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, service+"/"+bucket+"?restype=container", nil)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Format(http.TimeFormat)
	const version = "2021-08-06"
	req.Header.Set("x-ms-date", now)
	req.Header.Set("x-ms-version", version)
	key, err := base64.StdEncoding.DecodeString(azureKey)
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:" + now + "\nx-ms-version:" + version +
		"\n/account/account/" + bucket + "\nrestype:container"))
	req.Header.Set("Authorization", "SharedKey account:"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("the container: status %d", resp.StatusCode)
	}
}
