package memory

import "encoding/binary"

// A kind of image is what some images, often of many documents, have in common. Of the
// terms it has those that its document has, with few exceptions. So most images of all
// documents are of the same few kinds.
type kind struct {
	facts []uint32 // entries of segment.facts, ascending
	lacks []int32  // terms that the document has and the image has not: places in segment.terms, ascending
}

// kinds are the different kinds of images of a segment, by number. They are in a few pieces
// of memory without pointers, since there may be a million.
type kinds struct {
	sets  [][]uint32 // the different sets of facts
	set   []uint32   // the number of the set of facts of each kind
	ends  []uint32   // where the terms that each kind lacks end in lacks
	lacks []int32
}

func (x *kinds) len() int { return len(x.set) }

func (x *kinds) at(number uint32) kind { return kind{x.sets[x.set[number]], x.lackedBy(number)} }

// lackedBy returns the terms that a kind lacks.
func (x *kinds) lackedBy(number uint32) []int32 {
	from := uint32(0)
	if number > 0 {
		from = x.ends[number-1]
	}
	return x.lacks[from:x.ends[number]]
}

// bytes returns the memory that x takes.
func (x *kinds) bytes() int {
	n := 4 * (len(x.set) + len(x.ends) + len(x.lacks))
	for _, facts := range x.sets {
		n += 24 + 4*len(facts) // with the header of the slice
	}
	return n
}

// kindNumbers give each different kind a number.
type kindNumbers struct {
	numbers map[string]uint32
	sets    map[string]uint32 // of each different set of facts
	kinds   kinds
}

func newKindNumbers() *kindNumbers {
	return &kindNumbers{numbers: map[string]uint32{}, sets: map[string]uint32{}}
}

func (n *kindNumbers) number(k kind) uint32 {
	text := make([]byte, 0, 4*(1+len(k.facts)+len(k.lacks)))
	text = binary.LittleEndian.AppendUint32(text, uint32(len(k.facts)))
	for _, f := range k.facts {
		text = binary.LittleEndian.AppendUint32(text, f)
	}
	ofFacts := len(text)
	for _, term := range k.lacks {
		text = binary.LittleEndian.AppendUint32(text, uint32(term))
	}
	number, known := n.numbers[string(text)]
	if known {
		return number
	}
	number = uint32(n.kinds.len())
	n.numbers[string(text)] = number
	set, known := n.sets[string(text[:ofFacts])]
	if !known {
		set = uint32(len(n.kinds.sets))
		n.sets[string(text[:ofFacts])] = set
		n.kinds.sets = append(n.kinds.sets, k.facts)
	}
	n.kinds.set = append(n.kinds.set, set)
	n.kinds.lacks = append(n.kinds.lacks, k.lacks...)
	n.kinds.ends = append(n.kinds.ends, uint32(len(n.kinds.lacks)))
	return number
}
