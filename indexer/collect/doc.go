// Package collect decides which blobs may be deleted from the storage of the registry, and has
// it done by the sweep of the registry module (registry sweep serve), which alone has access to
// the storage.
//
// It looks at the storage again and again, and remembers since when nothing uses or links a
// blob. It also counts after which time blobs were needed again. Nothing is deleted unless that
// justifies it: see indexer.CollectPolicy. Then a blob that no look for the whole delay has seen
// used or linked, and that no manifest of the book names, is moved to a trash, and deleted from
// there later. Before each step the sweep looks at the storage again.
//
// All that is remembered is in the database, before it is ordered. So another process may go on
// at any time, and a crash loses nothing: the next look finds what is where.
package collect
