// Package ingest keeps the book: it hears of pushes and deletions, looks at the
// registry, and stores what it reads there.
//
// An event says where to look, never what is there. The webhook receiver and the
// scan both put tasks, "look at this reference", into one table; one worker
// step reads the reference from the registry, checks it, and hands what it found
// to the store, which takes it in as one transaction. So events that are lost,
// doubled, reordered, late or forged cannot make a wrong row.
//
// Any number of processes may receive and work; one of them, the leader, scans
// and tidies.
package ingest
