package store

import (
	"context"
	"database/sql"
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	"scimgate/gateway/audit"
)

// wordsIn are the words that every record of a query's answer has, those first that few have.
func wordsIn(q audit.Query) []word {
	status := ""
	if q.Status != 0 {
		status = strconv.Itoa(q.Status)
	}
	var words []word
	for _, w := range [...]word{{wordRule, q.Rule}, {wordStatus, status}, {wordAction, q.Action}, {wordOutcome, q.Outcome},
		{wordCredential, q.Credential}, {wordConnection, q.Connection}, {wordKind, q.Kind}} {
		if w.value != "" {
			words = append(words, w)
		}
	}
	return words
}

func (r *Reader) head(ctx context.Context) (seq int64, err error) {
	err = r.scans.QueryRowContext(ctx, sqlHead).Scan(&seq)
	return seq, err
}

// byWords finds what has all of the query's words, in complete blocks.
func (r *Reader) byWords(ctx context.Context, q audit.Query, in span, size int) (seqs []int64, err error) {
	words := wordsIn(q)
	query, args := blockQuery(q, words, in)
	rows, err := r.scans.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var n int64
	columns := []any{&n}
	maps := make([]sql.RawBytes, len(words))
	for i := range maps {
		columns = append(columns, &maps[i])
	}
	for len(seqs) < size && rows.Next() {
		if err := rows.Scan(columns...); err != nil {
			return nil, err
		}
		var all bitmap
		copy(all[:], maps[0])
		for _, m := range maps[1:] {
			for i := range all {
				all[i] &= at(m, i)
			}
		}
		seqs = all.appendPlaces(seqs, n, q.Newest, in, size)
	}
	return seqs, rows.Err()
}

// at is a byte of a bitmap, 0 beyond its end.
func at(m []byte, i int) byte {
	if i < len(m) {
		return m[i]
	}
	return 0
}

// appendPlaces appends the places within a span of the records of block n that have their bits set, until there are size.
func (m *bitmap) appendPlaces(seqs []int64, n int64, newest bool, in span, size int) []int64 {
	for i := range m {
		if newest {
			i = len(m) - 1 - i
		}
		for rest := m[i]; rest != 0 && len(seqs) < size; {
			bit := bits.TrailingZeros8(rest)
			if newest {
				bit = bits.Len8(rest) - 1
			}
			rest &^= 1 << bit
			if seq := n*blockSize + int64(i*8+bit) + 1; seq >= in.first && seq <= in.last {
				seqs = append(seqs, seq)
			}
		}
	}
	return seqs
}

// blockQuery writes the statement for the bits of the words in each block that has all of them. The words are looked up
// in their order: CROSS JOIN keeps it.
func blockQuery(q audit.Query, words []word, in span) (query string, args []any) {
	columns, tables := "w0.block, w0.bits", "trail_words w0"
	var c conditions
	c.where("w0.word = $N", words[0].key())
	c.where("w0.block >= $N", (in.first-1)/blockSize)
	c.where("w0.block <= $N", (in.last-1)/blockSize)
	for i, w := range words[1:] {
		name := fmt.Sprintf("w%d", i+1)
		columns += ", " + name + ".bits"
		tables += " CROSS JOIN trail_words " + name
		c.where(name+".word = $N", w.key())
		c.all = append(c.all, name+".block = w0.block")
	}
	order := "w0.block"
	if q.Newest {
		order += " DESC"
	}
	return fmt.Sprintf("SELECT %s FROM %s WHERE %s ORDER BY %s", columns, tables, strings.Join(c.all, " AND "), order), c.args
}
