package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"testing"
	"time"
)

// need skips the test because something is missing, or fails it if CI is set.
func need(t *testing.T, missing string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(missing)
	}
	t.Skip(missing)
}

// needPrograms skips the test if a program is missing.
func needPrograms(t *testing.T) {
	t.Helper()
	for _, name := range append([]string{chromium, "npm", "java"}, clients...) {
		if _, err := exec.LookPath(name); err != nil {
			need(t, name+" is not installed; deploy/prerequisites.sh lists what to install")
		}
	}
}

// fetchTimeout limits the download of 35 MB.
const fetchTimeout = 5 * time.Minute

// The files with the packages that npm has installed, and those that it should install.
const (
	lockFile = "package-lock.json"
	fetched  = "node_modules/" + lockFile + ".fetched"
)

// needPackages installs the packages of package-lock.json if they are not installed.
// npm checks their hashes and does not run their scripts.
func needPackages(t *testing.T) {
	t.Helper()
	want, err := os.ReadFile(lockFile)
	if err != nil {
		t.Fatal(err)
	}
	if have, err := os.ReadFile(fetched); err == nil && bytes.Equal(have, want) {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), fetchTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	if out, err := cmd.CombinedOutput(); err != nil {
		need(t, "npm ci: "+err.Error()+": "+string(out))
	}
	if err := os.WriteFile(fetched, want, 0o644); err != nil {
		t.Fatal(err)
	}
}
