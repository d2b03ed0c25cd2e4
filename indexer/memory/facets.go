package memory

import (
	"cmp"
	"slices"

	"github.com/portbook/portbook/indexer"
)

// FacetKinds are the kinds of facts that Facets counts, in the order shown.
var FacetKinds = []indexer.FactKind{
	indexer.FactNamespace, indexer.FactOS, indexer.FactArchitecture, indexer.FactType, indexer.FactLicence,
	indexer.FactLabel,
}

// Facets counts the facts of the repositories that match for certain, and returns for each
// of FacetKinds the n most frequent values. The key of a label is offered if the image of
// a leading tag has it, and counts the repositories with any image that has it.
func (m *Matches) Facets(n int) []indexer.Facet {
	facts := m.facts.all()
	counts := make([]uint32, len(facts)) // by number
	for _, p := range m.parts {
		p.countFacts(counts)
	}
	values := make([][]indexer.FacetValue, len(FacetKinds))
	label := slices.Index(FacetKinds, indexer.FactLabel)
	var keys []uint32
	for number, count := range counts {
		switch facet := int(facts[number].facet); {
		case count == 0 || facet < 0:
		case facet == label:
			keys = append(keys, uint32(number))
		default:
			values[facet] = addValue(values[facet], indexer.FacetValue{Value: facts[number].Value(), Count: int(count)}, n)
		}
	}
	values[label] = m.countKeys(keys, facts, n)
	var facets []indexer.Facet
	for i, kind := range FacetKinds {
		if len(values[i]) > 0 {
			facets = append(facets, indexer.Facet{Name: kind, Values: values[i]})
		}
	}
	return facets
}

// compareValues sorts values by count, largest first, then by value.
func compareValues(a, b indexer.FacetValue) int {
	return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Value, b.Value))
}

// addValue adds a value to the first n of others, which are sorted. The value is not used
// if it is empty: a repository without a namespace has none.
func addValue(first []indexer.FacetValue, v indexer.FacetValue, n int) []indexer.FacetValue {
	if v.Value == "" || len(first) == n && compareValues(first[n-1], v) < 0 {
		return first
	}
	at, _ := slices.BinarySearchFunc(first, v, compareValues)
	first = slices.Insert(first, at, v)
	return first[:min(len(first), n)]
}

// countFacts adds how many documents have each fact, namespaces included. It counts how
// often each set of facts occurs, and then the facts of each set.
func (p *matched) countFacts(counts []uint32) {
	ofSets := make([]uint32, p.factSets.len())
	for d := range p.sure.all() {
		ofSets[p.factsOf[d]]++
		counts[p.namespaceOf[d]]++
	}
	for i, n := range ofSets {
		if n > 0 {
			for _, f := range p.factSets.at(i) {
				counts[p.factNumber[f]] += n
			}
		}
	}
}

// countKeys returns the n most frequent of some keys of labels, which are facts by number:
// how many repositories have any image with the key. It counts keys in the order of how
// many documents have them, matching or not, and stops when no further key can be among
// the first n.
func (m *Matches) countKeys(keys []uint32, facts []fact, n int) []indexer.FacetValue {
	terms := m.termsOf(keys, facts)
	type key struct{ slot, most int }
	order := make([]key, len(keys))
	for slot := range keys {
		order[slot].slot = slot
		for i, p := range m.parts {
			if term := terms[i][slot]; term >= 0 {
				order[slot].most += p.withTerm.count(int(term))
			}
		}
	}
	slices.SortFunc(order, func(a, b key) int { return cmp.Compare(b.most, a.most) })
	floor := m.anyWithManyKeys()
	var first []indexer.FacetValue
	for _, k := range order {
		if len(first) == n && k.most < first[n-1].Count {
			break
		}
		v := indexer.FacetValue{Value: facts[keys[k.slot]].Value(), AtLeast: floor}
		for i, p := range m.parts {
			if term := terms[i][k.slot]; term >= 0 {
				v.Count += p.withTerm.countIn(p.sure, int(term))
			}
		}
		first = addValue(first, v, n)
	}
	return first
}

// termsOf returns for each part where its terms have each of some keys, or -1.
func (m *Matches) termsOf(keys []uint32, facts []fact) [][]int32 {
	slots := make([]int32, len(facts)) // 1 + the slot of a key
	hashes := make([]int64, len(keys))
	for slot, number := range keys {
		slots[number] = int32(slot) + 1
		hashes[slot] = Hash(string(facts[number].Fact))
	}
	const unknown = -2
	terms := make([][]int32, len(m.parts))
	for i, p := range m.parts {
		terms[i] = slices.Repeat([]int32{unknown}, len(keys))
		for f, number := range p.factNumber {
			if int(number) < len(slots) && slots[number] > 0 {
				terms[i][slots[number]-1] = p.keyTerm[f]
			}
		}
		for slot, term := range terms[i] {
			if term == unknown { // no leading tag of this part has it, but another image may
				terms[i][slot] = p.findTerm(hashes[slot])
			}
		}
	}
	return terms
}

// anyWithManyKeys reports whether the search row of a matching repository does not hold the
// keys of its images, because they are too many.
func (m *Matches) anyWithManyKeys() bool {
	many := Hash(ManyKeys)
	return slices.ContainsFunc(m.parts, func(p matched) bool {
		list := p.findTerm(many)
		return list >= 0 && p.withTerm.countIn(p.sure, int(list)) > 0
	})
}
