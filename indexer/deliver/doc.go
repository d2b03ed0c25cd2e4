// Package deliver tells others what happened in the registry: it sends events to webhooks.
//
// A Webhook is a receiver of events about the repositories of a pattern. An Event is queued in
// the transaction that changes the book, and a Sender of any writer sends it as a CloudEvent
// 1.0, signed as in the Standard Webhooks specification. An event is sent at least once: a
// receiver knows by its id that it has seen it.
//
// Who may manage webhooks chooses where requests go, so a Sender connects to no private
// address unless the configuration allows it.
package deliver
