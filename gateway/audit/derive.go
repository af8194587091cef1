package audit

// Key returns 32 bytes that only who has the trail's key can make, for a purpose beside redaction. It gives away
// nothing about redacted values, nor do these about it: what they are made of begins with the path of an attribute,
// which is UTF-8.
func (r *Redactor) Key(purpose string) []byte {
	m := r.macs.Get().(*mac)
	defer r.macs.Put(m)
	m.hash.Reset()
	m.hash.Write(append([]byte{0xff}, purpose...))
	return m.hash.Sum(nil)
}
