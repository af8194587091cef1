package audit

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Person is whose values are sealed under one key: one resource of one upstream.
type Person struct {
	Upstream     string
	ResourceType string
	ID           string // the id the upstream gave out
}

// PersonKey is the key of a person as it is stored.
type PersonKey struct {
	ID      string    // 28 hex digits; ids sort by the time they were made
	Master  string    // the id of the master key that wraps it
	Wrapped []byte    // the key under the master key
	Made    time.Time // UTC
}

// KeyChange is what is stored about a person's key together with a record.
type KeyChange struct {
	Put   *PersonKey // a key that may not be stored yet; one that is stays as it is
	ID    string     // the key's
	Owner Person     // whose it is; without an ID while that is not known
}

// KeyStore keeps the keys of persons.
type KeyStore interface {
	// NewestKey returns the newest key of a person; ok is false when there is none.
	NewestKey(ctx context.Context, p Person) (key PersonKey, ok bool, err error)
	// PersonKey returns the key with an id; ok is false when there is none, or no longer.
	PersonKey(ctx context.Context, id string) (key PersonKey, ok bool, err error)
}

// Sealer seals the sensitive values of records, so that who holds the master key can read them, until the key of the
// person they are about is destroyed. That key is random, and stored only under the master key, which stays outside the
// database. A Sealer is safe for concurrent use.
type Sealer struct {
	masters map[string]cipher.AEAD
	newest  string // the master key that new keys are wrapped under
	store   KeyStore

	mu         sync.Mutex
	young, old map[Person]*Key // together the keys that were used last; see remember
	erasures   int
}

// cacheSize is the number of keys in each of a Sealer's two maps. A key takes some 600 bytes.
const cacheSize = 512

var (
	// ErrNotSealed says that a record has no sealed values.
	ErrNotSealed = errors.New("the record has no sealed values")
	// ErrErased says that the key of a record's sealed values is not there: it was destroyed.
	ErrErased = errors.New("the key of the person was destroyed: the values are gone for ever")
)

// NewSealer returns a Sealer with the master keys, see LoadOrCreateKeys.
func NewSealer(masters Keys, store KeyStore) (*Sealer, error) {
	s := &Sealer{masters: map[string]cipher.AEAD{}, store: store, young: map[Person]*Key{}}
	for _, key := range masters {
		aead, err := newAEAD(key)
		if err != nil {
			return nil, err
		}
		s.newest = keyID(key)
		s.masters[s.newest] = aead
	}
	return s, nil
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("make a cipher: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// keyID tells master keys apart, and says nothing about them.
func keyID(key []byte) string {
	sum := sha256.Sum256(append([]byte("scimgate master key\x00"), key...))
	return hex.EncodeToString(sum[:8])
}

// Opens reports whether the Sealer has the master key with an id.
func (s *Sealer) Opens(master string) bool { return s.masters[master] != nil }

// Key is the key of one person, ready for use.
type Key struct {
	aead     cipher.AEAD
	row      PersonKey
	owner    Person
	stored   atomic.Bool // it stands in the database
	named    atomic.Bool // and so does whose it is
	erasures int         // of the Sealer, when the key was looked up
}

// New makes the key of a person who has no id yet; see Key.Belongs.
func (s *Sealer) New() (*Key, error) {
	now := time.Now().UTC()
	var plain [KeySize]byte
	rand.Read(plain[:]) // never fails: the program ends when the system has no randomness
	var id [14]byte
	for i := range 6 {
		id[i] = byte(now.UnixMilli() >> (40 - 8*i))
	}
	rand.Read(id[6:])
	k := &Key{}
	k.row = PersonKey{ID: hex.EncodeToString(id[:]), Master: s.newest, Made: now.Truncate(time.Microsecond)}
	k.row.Wrapped = s.masters[s.newest].Seal(nil, nil, plain[:], []byte(k.row.ID))
	s.mu.Lock()
	k.erasures = s.erasures
	s.mu.Unlock()
	var err error
	k.aead, err = newAEAD(plain[:])
	clear(plain[:])
	return k, err
}

// For returns the key of a person, a new one when there is none that can be unwrapped.
func (s *Sealer) For(ctx context.Context, p Person) (*Key, error) {
	k, erasures := s.cached(p)
	if k != nil {
		return k, nil
	}
	row, ok, err := s.store.NewestKey(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("look up the key of a person: %w", err)
	}
	ok = ok && s.Opens(row.Master)
	if ok {
		k, err = s.unwrap(row)
	} else {
		k, err = s.New()
	}
	if err != nil {
		return nil, err
	}
	k.named.Store(ok)
	k.owner, k.erasures = p, erasures
	return s.remember(k), nil
}

// Named returns the key with an id, or ErrErased.
func (s *Sealer) Named(ctx context.Context, id string) (*Key, error) {
	row, ok, err := s.store.PersonKey(ctx, id)
	switch {
	case err != nil:
		return nil, fmt.Errorf("look up the key of a person: %w", err)
	case !ok:
		return nil, ErrErased
	case !s.Opens(row.Master):
		return nil, fmt.Errorf("the key of the person is wrapped under another master key, %s: restore the file of that one", row.Master)
	}
	return s.unwrap(row)
}

func (s *Sealer) unwrap(row PersonKey) (*Key, error) {
	plain, err := s.masters[row.Master].Open(nil, nil, row.Wrapped, []byte(row.ID))
	if err != nil {
		return nil, fmt.Errorf("unwrap the key %s of a person: the database was changed: %w", row.ID, err)
	}
	k := &Key{row: row}
	k.stored.Store(true)
	k.aead, err = newAEAD(plain)
	clear(plain)
	return k, err
}

// Rewrap returns a person's key under the newest master key.
func (s *Sealer) Rewrap(row PersonKey) (PersonKey, error) {
	master := s.masters[row.Master]
	if master == nil {
		return row, fmt.Errorf("the key %s of a person is wrapped under another master key, %s: restore the file of that one", row.ID, row.Master)
	}
	plain, err := master.Open(nil, nil, row.Wrapped, []byte(row.ID))
	if err != nil {
		return row, fmt.Errorf("unwrap the key %s of a person: the database was changed: %w", row.ID, err)
	}
	row.Master, row.Wrapped = s.newest, s.masters[s.newest].Seal(nil, nil, plain, []byte(row.ID))
	clear(plain)
	return row, nil
}

// cached returns a person's key if it was used lately.
func (s *Sealer) cached(p Person) (*Key, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.young[p]; k != nil {
		return k, s.erasures
	}
	k := s.old[p]
	if k != nil {
		s.put(k)
	}
	return k, s.erasures
}

// remember keeps a key for those who ask next, unless keys were destroyed since it was looked up: it may be one of them.
// It returns the one to use: another request may have been faster.
func (s *Sealer) remember(k *Key) *Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k.erasures != s.erasures {
		return k
	}
	if other := s.young[k.owner]; other != nil {
		return other
	}
	s.put(k)
	return k
}

func (s *Sealer) put(k *Key) {
	if len(s.young) >= cacheSize {
		s.old, s.young = s.young, make(map[Person]*Key, cacheSize)
	}
	s.young[k.owner] = k
}

// Forget drops all keys from memory. It is called when keys were destroyed in the database.
func (s *Sealer) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erasures++
	s.young, s.old = map[Person]*Key{}, nil
}

// Belongs says whose a key of New or Named is. The next record that is sealed under it stores that. It is for the one
// request that has the key.
func (k *Key) Belongs(p Person) {
	if k.owner.ID == "" {
		k.owner = p
	}
}

// Stored says that the record which was sealed last is durable: what came with it need not be stored again.
func (s *Sealer) Stored(k *Key) {
	k.stored.Store(true)
	if k.owner.ID != "" && k.named.CompareAndSwap(false, true) {
		s.remember(k)
	}
}

// Sensitive reports whether there is anything to seal.
func Sensitive(attributes []Attribute) bool {
	return slices.ContainsFunc(attributes, func(a Attribute) bool {
		return a.Asked != nil && a.Asked.HMAC != "" || a.Sent != nil && a.Sent.HMAC != "" || a.Confirmed != nil && a.Confirmed.HMAC != ""
	})
}

// Bounds of what is sealed, in bytes of JSON: a record must not outgrow what the trail takes.
const (
	mostSealed = 64 << 10 // of one record
	mostValue  = 8 << 10  // of one value
)

// seals are the scratch space of Seal.
var seals = sync.Pool{New: func() any { return new([]byte) }}

// Seal seals the sensitive values of a record: the values of the distinct hashes in its attributes, in the order in which
// these first stand there (asked, sent, confirmed), as a JSON array, under AES-256-GCM with a random nonce before it, in
// base64. A value beyond the bounds is null. What appendContext says is authenticated with them and must be set: a box
// that was moved to another record, or whose values would stand at other attributes or for somebody else, does not open.
func (k *Key) Seal(rec *Record) {
	scratch := seals.Get().(*[]byte)
	defer seals.Put(scratch)
	text, n := appendSensitive((*scratch)[:0], rec.Attributes)
	if n == 0 {
		return
	}
	end := len(text)
	text = appendContext(text, rec)
	head := len(text)
	text = slices.Grow(text, 3*end+256) // what follows stays in it
	box := k.aead.Seal(text[head:], nil, text[:end], text[end:head])
	from := len(box)
	box = base64.StdEncoding.AppendEncode(box, box)
	rec.Sealed, rec.SealedKey = string(box[from:]), k.row.ID
	if stored := k.stored.Load(); !stored || !k.named.Load() && k.owner.ID != "" {
		rec.Key = &KeyChange{ID: k.row.ID, Owner: k.owner}
		if !stored {
			rec.Key.Put = &k.row
		}
	}
	clear(text[:end]) // the scratch space outlives the request
	*scratch = text
}

// appendContext appends what the box of a record is bound to: its kind and request, whom it is about, and which hash
// stands at which attribute. It is the same for a record that was written and read again.
func appendContext(dst []byte, rec *Record) []byte {
	for _, s := range [...]string{rec.Kind, rec.RequestID, rec.ResourceType, rec.Subject.ID, rec.Subject.UserName, rec.Subject.ExternalID} {
		dst = appendString(dst, s)
	}
	for i := range rec.Attributes {
		a := &rec.Attributes[i]
		dst = appendString(dst, a.Path)
		for _, v := range [...]*Value{a.Asked, a.Sent, a.Confirmed} {
			if v != nil {
				dst = append(dst, v.HMAC...)
			}
			dst = append(dst, ',')
		}
	}
	return dst
}

// appendSensitive appends the array of Seal, and counts its values.
func appendSensitive(dst []byte, attributes []Attribute) (_ []byte, n int) {
	begin := len(dst)
	dst = append(dst, '[')
	eachHash(attributes, func(v *Value) {
		if n++; n > 1 {
			dst = append(dst, ',')
		}
		at := len(dst)
		if v.plain != nil {
			dst = appendPlain(dst, v.plain)
		}
		if v.plain == nil || len(dst)-at > mostValue || len(dst)-begin > mostSealed {
			clear(dst[at:])
			dst = append(dst[:at], "null"...)
		}
	})
	return append(dst, ']'), n
}

// eachHash calls each for the first value of each distinct hash.
func eachHash(attributes []Attribute, each func(*Value)) {
	var room [3 * 16]string
	seen := room[:0]
	for i := range attributes {
		a := &attributes[i]
	values:
		for _, v := range [...]*Value{a.Asked, a.Sent, a.Confirmed} {
			if v == nil || v.HMAC == "" {
				continue
			}
			for _, other := range seen {
				if other == v.HMAC {
					continue values
				}
			}
			seen = append(seen, v.HMAC)
			each(v)
		}
	}
}

// Unseal shows somebody the sealed values of a record: it fills in the Unsealed of its values. by says who that is, in a
// few words. Nothing is filled in before record has made an event durable that says so, and none is made where there is
// nothing to show. Values that were too long to be sealed stay without.
func (s *Sealer) Unseal(ctx context.Context, rec *Record, by string, record func(context.Context, *Record) error) error {
	values, err := s.open(ctx, rec)
	if err != nil {
		return fmt.Errorf("record %d: %w", rec.Seq, err)
	}
	event := &Record{Kind: Event, Action: Unsealed, Connection: rec.Connection, ResourceType: rec.ResourceType, Subject: rec.Subject,
		Findings: []Finding{{Rule: "privacy", Verdict: Remark, Reason: fmt.Sprintf("the sealed values of record %d were shown to %s", rec.Seq, Clip(by))}}}
	if err := record(ctx, event); err != nil {
		return fmt.Errorf("nothing is shown, because it cannot be recorded that it is: %w", err)
	}
	for i := range rec.Attributes {
		a := &rec.Attributes[i]
		for _, v := range [...]*Value{a.Asked, a.Sent, a.Confirmed} {
			if v != nil && v.HMAC != "" {
				v.Unsealed = values[v.HMAC]
			}
		}
	}
	return nil
}

// open returns the sealed values of a record by their hashes.
func (s *Sealer) open(ctx context.Context, rec *Record) (map[string]json.RawMessage, error) {
	if rec.Sealed == "" {
		return nil, ErrNotSealed
	}
	k, err := s.Named(ctx, rec.SealedKey)
	if err != nil {
		return nil, err
	}
	var list []json.RawMessage
	box, err := base64.StdEncoding.DecodeString(rec.Sealed)
	if err == nil {
		box, err = k.aead.Open(nil, nil, box, appendContext(nil, rec))
	}
	if err == nil {
		err = json.Unmarshal(box, &list)
	}
	if err != nil {
		return nil, fmt.Errorf("the record is not as it was written, and its sealed values do not open (`scimgate audit verify` tells more): %w", err)
	}
	values := make(map[string]json.RawMessage, len(list))
	n := 0
	eachHash(rec.Attributes, func(v *Value) {
		if n < len(list) && string(list[n]) != "null" {
			values[v.HMAC] = list[n]
		}
		n++
	})
	return values, nil
}
