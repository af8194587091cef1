package store
import ("testing";"path/filepath";"time";"scimgate/gateway/audit";"fmt")
func TestZZ(t *testing.T) {
	p := filepath.Join(t.TempDir(), "gate.db")
	s := mustOpen(t, Config{Path: p})
	var n int64
	for range 800 { 
		var batch []*item
		for range 250 { n++; w, _ := s.newWork(benchRecord(n), nil); batch = append(batch, &item{work: w, done: make(chan struct{})}) }
		s.store(batch)
	}
	for _, q := range []audit.Query{{User:"user.7@contoso.com"},{RequestID:"x"},{Since: time.Now().Add(-time.Second)},{Until: time.Now(), Since: time.Now().Add(-time.Second), Newest: true},{Action:"updated",Newest:true, After:5000},{User:"user.7@contoso.com", After: 500, Newest:true, Since: time.Now().Add(-time.Hour)}} {
		query, args := pageQuery(q, q.After, 0, 128)
		rows, err := s.scans.Query("EXPLAIN QUERY PLAN "+query, args...)
		if err != nil { t.Fatal(err) }
		fmt.Println(query)
		for rows.Next() { var a,b,c int; var d string; rows.Scan(&a,&b,&c,&d); fmt.Println("   ", d) }
		rows.Close()
		t0 := time.Now()
		page, err := s.page(t.Context(), q, q.After, 0, 128)
		fmt.Println("   ", len(page), err, time.Since(t0))
	}
	t0 := time.Now()
	s.Close()
	fmt.Println("close", time.Since(t0))
	t0 = time.Now()
	s2, err := Open(t.Context(), Config{Path: p})
	fmt.Println("open", err, time.Since(t0))
	t0 = time.Now()
	fmt.Println(s2.writer.conn.get("PRAGMA quick_check(1)"))
	fmt.Println("quick_check", time.Since(t0))
	fmt.Println(s2.writer.conn.get("PRAGMA page_count"))
	t0 = time.Now()
	fmt.Println(s2.writer.conn.get("PRAGMA quick_check(trail_names)"))
	fmt.Println("quick_check", time.Since(t0))
	t0 = time.Now()
	for _, err := range s2.Search(t.Context(), audit.Query{}) { if err != nil { t.Fatal(err) } }
	fmt.Println("search all", time.Since(t0))
	s2.Close()
}
