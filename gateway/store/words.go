package store

import (
	"bytes"
	"database/sql/driver"
	"encoding/json"
	"maps"
	"slices"
	"strconv"

	"scimgate/gateway/audit"
)

// What many records share is found through words: "action created", "rule enterprise-extension". There are a few dozen
// of them, so that an index with a row for each record and word would hold little else than its own keys. Instead the
// trail is cut into blocks of blockSize records, and a block has one row for each word that occurs in it, with a bit for
// each record. A block is written when it is complete, in the transaction of its last record, which makes some thirty
// rows for 4,096 records. A search intersects the bits of the words that it asks for, and reads what stands behind the
// last complete block in trail itself.

// blockSize is the number of records in a block. It is part of the schema.
const blockSize = 4096

// word is a value that searches go by.
type word struct {
	field byte
	value string
}

// Fields of words.
const (
	wordKind       = 'k'
	wordAction     = 'a'
	wordOutcome    = 'o'
	wordStatus     = 's'
	wordRule       = 'r'
	wordConnection = 'n'
	wordCredential = 'c'
)

// key is the word as it stands in trail_words.
func (w word) key() string { return string(w.field) + ":" + w.value }

// wordsOf are the words of a record.
func wordsOf(rec *audit.Record) []word {
	words := make([]word, 0, 6+len(rec.Findings))
	for _, w := range [...]word{{wordKind, rec.Kind}, {wordAction, rec.Action}, {wordOutcome, audit.OutcomeOf(rec)},
		{wordConnection, rec.Connection}, {wordCredential, rec.Credential}} {
		if w.value != "" {
			words = append(words, w)
		}
	}
	if rec.Answer.Status != 0 {
		words = append(words, word{wordStatus, strconv.Itoa(rec.Answer.Status)})
	}
	for i := range rec.Findings {
		if rule := rec.Findings[i].Rule; rule != "" {
			words = append(words, word{wordRule, rule})
		}
	}
	return words
}

// bitmap has a bit for each record of a block.
type bitmap [blockSize / 8]byte

// block collects the words of the records behind the last complete block.
type block struct{ bits map[word]*bitmap }

// add notes the words of a record. The last one of a block writes the block, in its own transaction.
func (b *block) add(seq int64, words []word, put *stmt) error {
	if b.bits == nil {
		b.bits = map[word]*bitmap{}
	}
	at := int((seq - 1) % blockSize)
	for _, w := range words {
		bits := b.bits[w]
		if bits == nil {
			bits = new(bitmap)
			b.bits[w] = bits
		}
		bits[at/8] |= 1 << (at % 8)
	}
	if at < blockSize-1 {
		return nil
	}
	n := seq/blockSize - 1
	rows := map[string][]byte{"": {}}
	for w, bits := range b.bits {
		rows[w.key()] = bits[:]
	}
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		if _, err := put.exec(bind(key, n, rows[key])); err != nil {
			return err
		}
	}
	clear(b.bits)
	return nil
}

// load reads the words of the records behind the last complete block from the trail.
func (b *block) load(source *stmt, head int64) error {
	clear(b.bits)
	return b.read(source, head-head%blockSize, head, nil)
}

// read notes the words of the records behind first up to last, from the trail.
func (b *block) read(source *stmt, first, last int64, put *stmt) error {
	return source.query(bind(first, last), func(row []driver.Value) error {
		rec := &audit.Record{}
		rec.Seq, _ = row[0].(int64)
		rec.Kind, _ = row[1].(string)
		rec.Action, _ = row[2].(string)
		status, _ := row[3].(int64)
		rec.Answer.Status = int(status)
		rec.Connection, _ = row[4].(string)
		rec.Credential, _ = row[5].(string)
		line, _ := row[6].([]byte)
		if bytes.Contains(line, []byte(`"findings":[`)) { // few have any, and this is how audit.Append writes them
			var only struct{ Findings []audit.Finding }
			if err := json.Unmarshal(line, &only); err == nil { // else the record was damaged, which it is not for an index to tell
				rec.Findings = only.Findings
			}
		}
		return b.add(rec.Seq, wordsOf(rec), put)
	})
}

// fillBlocks writes the blocks that are complete and not written: those of a database of an earlier schema version.
func fillBlocks(c *conn) (err error) {
	head, err := c.get(sqlHead)
	if err != nil {
		return err
	}
	written, err := c.get(sqlBlocks)
	if err != nil {
		return err
	}
	last, _ := head.(int64)
	first, _ := written.(int64)
	if first >= last/blockSize {
		return nil
	}
	source, err := c.prepare(sqlWordSource)
	if err != nil {
		return err
	}
	put, err := c.prepare(sqlPutWord)
	if err == nil {
		var b block
		err = b.read(source, first*blockSize, last-last%blockSize, put)
		err = joinClose(err, put)
	}
	return joinClose(err, source)
}

// joinClose closes a statement, with the error of what came before.
func joinClose(err error, s *stmt) error {
	if closed := s.raw.Close(); err == nil {
		err = closed
	}
	return err
}
