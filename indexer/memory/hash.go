package memory

import (
	"encoding/binary"
	"math/bits"
)

// Hash returns hashtextextended(text, 0) of PostgreSQL, by which search rows hold terms.
// It is the hash of Bob Jenkins' lookup3 (common/hashfn.c, hash_bytes_extended).
// PostgreSQL keeps it the same in all versions, because partitions depend on it.
func Hash(text string) int64 {
	initial := 0x9e3779b9 + uint32(len(text)) + 3923095
	a, b, c := initial, initial, initial
	for ; len(text) >= 12; text = text[12:] {
		a += word(text)
		b += word(text[4:])
		c += word(text[8:])
		a, b, c = mix(a, b, c)
	}
	var rest [12]byte
	copy(rest[:], text)
	a += binary.LittleEndian.Uint32(rest[:])
	b += binary.LittleEndian.Uint32(rest[4:])
	c += binary.LittleEndian.Uint32(rest[8:]) << 8 // its lowest byte is for the length
	b, c = final(a, b, c)
	return int64(uint64(b)<<32 | uint64(c))
}

func word(s string) uint32 {
	return uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
}

func mix(a, b, c uint32) (uint32, uint32, uint32) {
	a = (a - c) ^ bits.RotateLeft32(c, 4)
	c += b
	b = (b - a) ^ bits.RotateLeft32(a, 6)
	a += c
	c = (c - b) ^ bits.RotateLeft32(b, 8)
	b += a
	a = (a - c) ^ bits.RotateLeft32(c, 16)
	c += b
	b = (b - a) ^ bits.RotateLeft32(a, 19)
	a += c
	c = (c - b) ^ bits.RotateLeft32(b, 4)
	b += a
	return a, b, c
}

func final(a, b, c uint32) (uint32, uint32) {
	c = (c ^ b) - bits.RotateLeft32(b, 14)
	a = (a ^ c) - bits.RotateLeft32(c, 11)
	b = (b ^ a) - bits.RotateLeft32(a, 25)
	c = (c ^ b) - bits.RotateLeft32(b, 16)
	a = (a ^ c) - bits.RotateLeft32(c, 4)
	b = (b ^ a) - bits.RotateLeft32(a, 14)
	c = (c ^ b) - bits.RotateLeft32(b, 24)
	return b, c
}
