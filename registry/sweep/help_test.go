package sweep_test

import "github.com/opencontainers/go-digest"

func digestOf(text string) string { return digest.FromString(text).String() }

func digestType(text string) digest.Digest { return digest.Digest(text) }
