//go:build !linux

package localpg

func tempDir() string { return "" }
