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
		m.countFacts(p, counts)
	}
	values, keys := valuesOf(counts, facts, n)
	var err error
	if values[labelFacet], err = m.countKeys(keys, facts, counts, n, keysOf); err != nil {
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
		if count == 0 {
			continue
		}
		switch facet := int(facts[number].facet); {
		case facet < 0:
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

// countFacts adds how many documents have each fact, namespaces included. It looks at the
// facts of each document if these are few, at those of each other one if nearly all match,
// and else at the documents of each fact.
func (m *Matches) countFacts(p matched, counts []uint32) {
	n := p.sure.count()
	few := p.len() / 8
	switch {
	case n <= few:
		ofFacts := p.countEach(p.sure, func(namespace uint32) { counts[namespace]++ })
		for f, number := range p.factNumber {
			counts[number] += ofFacts[f]
		}
	case p.len()-n <= few:
		others := m.scratch.empty(p.len())
		others.fill(p.len())
		others.andNot(p.sure)
		for _, t := range p.totals {
			counts[t.number] += t.documents
		}
		ofFacts := p.countEach(others, func(namespace uint32) { counts[namespace]-- })
		for f, number := range p.factNumber {
			counts[number] -= ofFacts[f]
		}
		m.scratch.release(others)
	default:
		for d := range p.sure.all() {
			counts[p.namespaceOf[d]]++
		}
		for f, number := range p.factNumber {
			counts[number] += uint32(p.withFact.countIn(p.sure, f))
		}
	}
}

// countEach returns how many documents of a set have each fact, and calls f with the
// namespace of each document.
func (s *segment) countEach(docs set, f func(namespace uint32)) (ofFacts []uint32) {
	ofFacts = make([]uint32, len(s.factNumber))
	for d := range docs.all() {
		f(s.namespaceOf[d])
		for _, fact := range s.factSets.at(int(s.factsOf[d])) {
			ofFacts[fact]++
		}
	}
	return ofFacts
}

// countKeys returns the n most frequent of some keys of labels, which are facts by number:
// how many repositories have any image with the key. counts are those of countFacts.
func (m *Matches) countKeys(
	keys []uint32, facts []fact, counts []uint32, n int, keysOf func(ids []int32, keys []string) (map[string]int, error),
) ([]indexer.FacetValue, error) {
	offered := m.offer(keys, facts, counts)
	beside := map[string]int{} // in repositories with too many keys
	sure, many := m.withoutManyKeys()
	defer m.scratch.release(sure...)
	if len(many) > 0 && len(keys) > 0 {
		var err error
		if beside, err = keysOf(many, offered.names); err != nil {
			return nil, err
		}
	}
	for key, name := range offered.names {
		offered.most[key] += beside[name]
	}
	return offered.mostFrequent(n, func(key int) int {
		count := beside[offered.names[key]]
		for i, p := range m.parts {
			if term := offered.terms[i][key]; term >= 0 {
				count += p.withTerm.countIn(sure[i], int(term))
			}
		}
		return count
	}), nil
}

// offeredKeys are keys of labels that are offered as a facet.
type offeredKeys struct {
	names []string
	most  []int     // how many of the matching documents have the key at most
	terms [][]int32 // for each part the place of each key in its terms, or -1
}

// mostFrequent returns the n most frequent keys; count returns how many documents have a
// key, by its place in names. It is not called for keys that cannot be among the first n.
func (o *offeredKeys) mostFrequent(n int, count func(key int) int) (first []indexer.FacetValue) {
	order := make([]int, len(o.names))
	for key := range order {
		order[key] = key
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(o.most[b], o.most[a]) })
	for _, key := range order {
		if len(first) == n && o.most[key] < first[n-1].Count {
			break
		}
		if c := count(key); c > 0 {
			first = addValue(first, indexer.FacetValue{Value: o.names[key], Count: c}, n)
		}
	}
	return first
}

// offer returns keys of labels, which are facts by number. counts are how many of the
// matching documents have each fact: the key in the image of the leading tag. To these come
// at most all documents that have the key only in other images, matching or not; in most
// books these are few.
func (m *Matches) offer(keys []uint32, facts []fact, counts []uint32) offeredKeys {
	o := offeredKeys{names: make([]string, len(keys)), most: make([]int, len(keys)), terms: make([][]int32, len(m.parts))}
	places := make([]int32, len(facts)) // 1 + the place of a key
	hashes := make([]int64, len(keys))
	for key, number := range keys {
		places[number] = int32(key) + 1
		hashes[key] = Hash(string(facts[number].Fact))
		o.names[key] = facts[number].Value()
		o.most[key] = int(counts[number])
	}
	const unknown = -2
	for i, p := range m.parts {
		terms := slices.Repeat([]int32{unknown}, len(keys))
		for f, number := range p.factNumber {
			if int(number) < len(places) && places[number] > 0 {
				key := places[number] - 1
				terms[key] = p.keyTerm[f]
				o.most[key] += int(p.keyBeside[f])
			}
		}
		for key, term := range terms {
			if term == unknown { // no leading tag of this part has it, but another image may
				if terms[key] = p.findTerm(hashes[key]); terms[key] >= 0 {
					o.most[key] += p.withTerm.count(int(terms[key]))
				}
			}
		}
		o.terms[i] = terms
	}
	return o
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
