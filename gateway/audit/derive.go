package audit

// Keys returns 32 bytes for each of the trail's keys, newest first, that only who has the key can make, for a purpose
// beside redaction. They give away nothing about redacted values, nor do these about them: what they are made of begins
// with the path of an attribute, which is UTF-8.
func (r *Redactor) Keys(purpose string) Keys {
	keys := make(Keys, len(r.macs))
	for i := range r.macs {
		m := r.macs[i].take()
		m.hash.Write(append([]byte{0xff}, purpose...))
		keys[i] = m.hash.Sum(nil)
		r.macs[i].Put(m)
	}
	return keys
}
