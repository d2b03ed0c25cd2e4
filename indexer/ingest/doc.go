// Package ingest keeps the book up to date: it receives the registry's events, reads
// the registry and stores what it reads.
//
// An event only says which reference to read; its other content is not trusted.
// Receiver and Scanner add tasks to one table, each with a reference to read. Workers
// read the references, check them and pass a Finding to the store, which applies it in
// one transaction. So events that are lost, repeated, reordered, late or forged cannot
// make a wrong row.
//
// Any number of processes may receive events and run workers. One of them, the leader,
// also runs the jobs in leader.go: scans and upkeep.
package ingest
