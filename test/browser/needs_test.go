package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"testing"
	"time"
)

// need skips the test for want of something; with CI set it fails.
func need(t *testing.T, missing string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(missing)
	}
	t.Skip(missing)
}

// needPrograms looks for those that the tests run.
func needPrograms(t *testing.T) {
	t.Helper()
	for _, name := range append([]string{chromium, "npm", "java"}, clients...) {
		if _, err := exec.LookPath(name); err != nil {
			need(t, name+" is not installed; deploy/prerequisites.sh tells what is")
		}
	}
}

// fetchTimeout is for 35 MB.
const fetchTimeout = 5 * time.Minute

// What npm keeps in its folder of what it fetched, and what tells it what to
// fetch.
const (
	lockFile = "package-lock.json"
	fetched  = "node_modules/" + lockFile + ".fetched"
)

// needPackages fetches what package-lock.json says, unless it is here already.
// npm checks the hashes that stand there, and runs none of what it fetches.
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
