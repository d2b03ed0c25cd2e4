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
// a leading tag has it, and counts the repositories with any image that has it. keysOf
// returns how many of some repositories have each key; it is called for those whose images
// have too many keys for their search row.
func (m *Matches) Facets(
	n int, keysOf func(ids []int32, keys []string) (map[string]int, error),
) ([]indexer.Facet, error) {
	facts := m.facts.all()
	counts := make([]uint32, len(facts)) // by number
	for _, p := range m.parts {
		p.countFacts(counts)
	}
	values, keys := valuesOf(counts, facts, n)
	var err error
	if values[labelFacet], err = m.countKeys(keys, facts, n, keysOf); err != nil {
		return nil, err
	}
	return facetsOf(values), nil
}

// labelFacet is the place of labels in FacetKinds.
var labelFacet = slices.Index(FacetKinds, indexer.FactLabel)

// valuesOf returns the n most frequent values of each of FacetKinds but labels, and the
// keys of labels that occur; counts are by number of the facts.
func valuesOf(counts []uint32, facts []fact, n int) (values [][]indexer.FacetValue, keys []uint32) {
	values = make([][]indexer.FacetValue, len(FacetKinds))
	for number, count := range counts {
		switch facet := int(facts[number].facet); {
		case count == 0 || facet < 0:
		case facet == labelFacet:
			keys = append(keys, uint32(number))
		case len(values[facet]) < n || int(count) >= values[facet][n-1].Count:
			values[facet] = addValue(values[facet], indexer.FacetValue{Value: facts[number].Value(), Count: int(count)}, n)
		}
	}
	return values, keys
}

// facetsOf returns the facets that have a value; values are by FacetKinds.
func facetsOf(values [][]indexer.FacetValue) (facets []indexer.Facet) {
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

// fewDocuments is the maximum number of documents whose facts are looked at one by one:
// 1,000. For more it is faster to look at the documents of each fact.
const fewDocuments = 1000

// countFacts adds how many documents have each fact, namespaces included.
func (p *matched) countFacts(counts []uint32) {
	for d := range p.sure.all() {
		counts[p.namespaceOf[d]]++
	}
	if p.sure.count() <= fewDocuments {
		for d := range p.sure.all() {
			for _, f := range p.factSets.at(int(p.factsOf[d])) {
				counts[p.factNumber[f]]++
			}
		}
		return
	}
	for f, number := range p.factNumber {
		counts[number] += uint32(p.withFact.countIn(p.sure, f))
	}
}

// countKeys returns the n most frequent of some keys of labels, which are facts by number:
// how many repositories have any image with the key. It counts keys in the order of how
// many documents have them, matching or not, and stops when no further key can be among
// the first n.
func (m *Matches) countKeys(
	keys []uint32, facts []fact, n int, keysOf func(ids []int32, keys []string) (map[string]int, error),
) ([]indexer.FacetValue, error) {
	names := make([]string, len(keys))
	for slot, number := range keys {
		names[slot] = facts[number].Value()
	}
	beside := map[string]int{} // in repositories with too many keys
	sure, many := m.withoutManyKeys()
	defer m.scratch.release(sure...)
	if len(many) > 0 && len(names) > 0 {
		var err error
		if beside, err = keysOf(many, names); err != nil {
			return nil, err
		}
	}
	terms := m.termsOf(keys, facts)
	type key struct{ slot, most int }
	order := make([]key, len(keys))
	for slot, name := range names {
		order[slot] = key{slot, beside[name]}
		for i, p := range m.parts {
			if term := terms[i][slot]; term >= 0 {
				order[slot].most += p.withTerm.count(int(term))
			}
		}
	}
	slices.SortFunc(order, func(a, b key) int { return cmp.Compare(b.most, a.most) })
	var first []indexer.FacetValue
	for _, k := range order {
		if len(first) == n && k.most < first[n-1].Count {
			break
		}
		v := indexer.FacetValue{Value: names[k.slot], Count: beside[names[k.slot]]}
		for i, p := range m.parts {
			if term := terms[i][k.slot]; term >= 0 {
				v.Count += p.withTerm.countIn(sure[i], int(term))
			}
		}
		first = addValue(first, v, n)
	}
	return first, nil
}

// withoutManyKeys returns for each part the documents that match for certain and have the
// keys of all their images in the search row, and the ids of those that have not.
func (m *Matches) withoutManyKeys() (sure []set, many []int32) {
	hash := Hash(ManyKeys)
	for _, p := range m.parts {
		s := m.scratch.empty(p.len())
		copy(s, p.sure)
		if list := p.findTerm(hash); list >= 0 {
			p.withTerm.each(int(list), func(d uint16) {
				if s.has(d) {
					s.remove(d)
					many = append(many, p.ids[d])
				}
			})
		}
		sure = append(sure, s)
	}
	return sure, many
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
