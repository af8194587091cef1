package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"iter"
	"time"

	"scimgate/gateway/audit"
	"scimgate/gateway/identity"
)

// OpenIntent is a write that was announced in the trail and not yet closed, or closed as unknown and not yet
// reconciled. It is kept in a table of its own, so that the trail is never a work queue.
type OpenIntent struct {
	Intent     int64     // seq of the intent's record
	Boot       string    // the process that announced it
	LeaseUntil time.Time // until when that process was expected to close it

	Connection   string
	Upstream     string
	Op           string
	ResourceType string
	ID           string // "" for a create
	RequestID    string
	Payload      []byte    // what reconciliation needs, opaque here; deleted with the row, by an outcome or Reconciled
	Time         time.Time // of the intent's record

	Unknown bool // closed as unknown, waiting for Reconciled
}

// Append stores a record that neither opens nor closes an intent: the outcome of a read or of a refusal (the default
// kind), or an event. It is durable when Append returns; rec.Seq is set. When ctx ends first, the error is ErrNotDurable
// and the record may still be stored.
func (s *Store) Append(ctx context.Context, rec *audit.Record, changes ...identity.Change) (int64, error) {
	w, err := s.newSingle(rec, changes)
	if err != nil {
		return 0, fmt.Errorf("append to the trail: %w", err)
	}
	return s.finishRecord(ctx, rec, w, nil, "append to the trail")
}

// newSingle is newWork for a record that neither opens nor closes an intent.
func (s *Store) newSingle(rec *audit.Record, changes []identity.Change) (*work, error) {
	if rec.Kind == "" {
		rec.Kind = audit.Outcome
	}
	if rec.Kind != audit.Outcome && rec.Kind != audit.Event || rec.Intent != 0 {
		return nil, fmt.Errorf("a record of kind %q with intent %d needs Intend, Conclude or Reconciled", rec.Kind, rec.Intent)
	}
	return s.newWork(rec, changes)
}

// AppendAll stores many records as Append does, without waiting for one before the next is handed over. All of them are
// durable when it returns without error; after an error, some may be.
func (s *Store) AppendAll(ctx context.Context, records iter.Seq[*audit.Record]) error {
	var items []*item // that are waited for, no more than the queue has places
	settle := func(most int) error {
		for len(items) > most {
			if err := s.wait(ctx, items[0], nil); err != nil {
				return fmt.Errorf("append to the trail: %w", err)
			}
			items = items[1:]
		}
		return nil
	}
	for rec := range records {
		w, err := s.newSingle(rec, nil)
		if err != nil {
			return fmt.Errorf("append to the trail: %w", err)
		}
		it, err := s.submit(ctx, w, nil)
		if err != nil {
			return fmt.Errorf("append to the trail: %w", err)
		}
		items = append(items, it)
		if err := settle(queueSize); err != nil {
			return err
		}
	}
	return settle(0)
}

// Intend stores an intent and its open row. Only when it returns without error may the write be sent: everything is
// durable then, and rec.Seq and the result are the number to close it with. Otherwise nothing may be sent, and nothing
// is left to do: the error comes within CommitTimeout or when ctx ends, and either the intent is certainly not stored, or
// the store closes it itself with an outcome "abandoned" as soon as it learns that it is. Of open, the store fills in
// Intent, Boot, LeaseUntil and Time.
func (s *Store) Intend(ctx context.Context, rec *audit.Record, open OpenIntent) (int64, error) {
	rec.Kind = audit.Intent
	w, err := s.newWork(rec, nil)
	if err != nil {
		return 0, fmt.Errorf("store an intent: %w", err)
	}
	var payload driver.Value
	if len(open.Payload) > 0 {
		payload = append([]byte(nil), open.Payload...)
	}
	w.opens = bind(nil, s.boot, s.clock().Add(s.lease).UnixMicro(), open.Connection, open.Upstream, open.Op, open.ResourceType,
		open.ID, open.RequestID, payload, rec.Time.UnixMicro())
	limit := time.NewTimer(s.commitTimeout)
	defer limit.Stop()
	return s.finishRecord(ctx, rec, w, limit.C, "store an intent")
}

// Conclude closes the intent rec.Intent and changes the identity map, in one transaction. With an outcome (the default
// kind) the intent's row is deleted; as unknown (the answer was lost, and nobody can tell any more) it stays, with its
// payload, among the Unreconciled until Reconciled. A second conclusion of one intent gets ErrNotOpen. ErrNotDurable says
// that the conclusion is not durable yet: the store keeps it and stores it as soon as it can, before later work, so it
// must not be repeated. Only ErrClosed, or the end of the process, leaves the intent to the next start's TakeOver.
func (s *Store) Conclude(ctx context.Context, rec *audit.Record, changes ...identity.Change) (int64, error) {
	if rec.Kind == "" {
		rec.Kind = audit.Outcome
	}
	if rec.Kind != audit.Outcome && rec.Kind != audit.Unknown {
		return 0, fmt.Errorf("conclude an intent: a record of kind %q cannot", rec.Kind)
	}
	how := withOutcome
	if rec.Kind == audit.Unknown {
		how = asUnknown
	}
	return s.closeIntent(ctx, rec, changes, how, "conclude an intent")
}

// Reconciled stores what became of the intent rec.Intent, which Conclude or TakeOver had closed as unknown, and deletes
// its row. It behaves as Conclude does.
func (s *Store) Reconciled(ctx context.Context, rec *audit.Record, changes ...identity.Change) (int64, error) {
	rec.Kind = audit.Reconciled
	return s.closeIntent(ctx, rec, changes, reconciled, "reconcile an intent")
}

func (s *Store) closeIntent(ctx context.Context, rec *audit.Record, changes []identity.Change, how closing, doing string) (int64, error) {
	if rec.Intent <= 0 {
		return 0, fmt.Errorf("%s: the record does not say which", doing)
	}
	w, err := s.newWork(rec, changes)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", doing, err)
	}
	w.closes, w.how = rec.Intent, how
	return s.finishRecord(ctx, rec, w, nil, doing)
}

// finishRecord hands a record's work over, waits for it and tells the caller.
func (s *Store) finishRecord(ctx context.Context, rec *audit.Record, w *work, limit <-chan time.Time, doing string) (int64, error) {
	it, err := s.submit(ctx, w, limit)
	if err == nil {
		err = s.wait(ctx, it, limit)
	} else if w.owedAnyway() && err != ErrClosed {
		s.owe(w)
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %w", doing, err)
	}
	rec.Seq = it.seq
	return it.seq, nil
}

// abandon makes the outcome of an intent that became durable after its caller had given up.
func (s *Store) abandon(it *item) (*work, error) {
	intent, err := audit.Parse(it.bytes(it.seq))
	if err != nil {
		return nil, err
	}
	rec := closingRecord(intent, audit.Outcome, audit.Abandoned)
	rec.Error = "the intent became durable only after its request had been refused; nothing was sent"
	w, err := s.newWork(rec, nil)
	if err != nil {
		return nil, err
	}
	w.closes, w.how = it.seq, withOutcome
	return w, nil
}

// closingRecord starts a record that the store itself closes an intent with.
func closingRecord(intent *audit.Record, kind, action string) *audit.Record {
	return &audit.Record{Kind: kind, Action: action, Intent: intent.Seq, RequestID: intent.RequestID, Connection: intent.Connection,
		Credential: intent.Credential, Source: intent.Source, Method: intent.Method, Op: intent.Op,
		ResourceType: intent.ResourceType, Subject: intent.Subject}
}

// TakeOver closes as unknown every intent that an earlier process left open, and returns those, oldest first. The lock
// on the database proves that their processes are dead, so their leases are not waited for. They stay in the table,
// marked Unknown, until Reconciled. After an error some may have been taken over: Unreconciled returns these too.
func (s *Store) TakeOver(ctx context.Context) ([]OpenIntent, error) {
	foreign, err := s.intents(ctx, sqlForeign, s.boot)
	if err != nil {
		return nil, fmt.Errorf("take over open intents: %w", err)
	}
	items := make([]*item, len(foreign))
	for i, open := range foreign {
		intent, err := s.Get(ctx, open.Intent)
		if err != nil {
			return nil, fmt.Errorf("take over open intents: intent %d: %w", open.Intent, err)
		}
		rec := closingRecord(intent, audit.Unknown, audit.Interrupted)
		rec.Error = fmt.Sprintf("process %s ended between this intent and its outcome", open.Boot)
		w, err := s.newWork(rec, nil)
		if err != nil {
			return nil, fmt.Errorf("take over open intents: intent %d: %w", open.Intent, err)
		}
		w.closes, w.how = open.Intent, asUnknown
		if items[i], err = s.submit(ctx, w, nil); err != nil {
			return nil, fmt.Errorf("take over open intents: %w", err)
		}
	}
	var mine []OpenIntent
	for i, it := range items {
		err := s.wait(ctx, it, nil)
		if errors.Is(err, ErrNotOpen) { // a call beside this one was faster
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("take over open intents: %w", err)
		}
		foreign[i].Unknown = true
		mine = append(mine, foreign[i])
	}
	if len(mine) > 0 {
		s.log.Warn("intents of an earlier process are closed as unknown and wait to be reconciled", "count", len(mine))
	}
	return mine, nil
}
