package entra

import (
	"fmt"
	"math/rand/v2"
)

// name is a given or a family name beside its spelling in a userName.
type name struct{ written, ascii string }

var givenNames = [...]name{
	{"Zoë", "zoe"}, {"José", "jose"}, {"Łukasz", "lukasz"}, {"Søren", "soren"}, {"Anaïs", "anais"}, {"Jürgen", "juergen"},
	{"Siobhán", "siobhan"}, {"Nguyễn", "nguyen"}, {"Ömer", "oemer"}, {"Катя", "katja"}, {"さくら", "sakura"}, {"Δημήτρης", "dimitris"},
	{"Mary", "mary"}, {"James", "james"}, {"Fatima", "fatima"}, {"Chidi", "chidi"}, {"Priya", "priya"}, {"Ming", "ming"},
	{"Anna Maria", "annamaria"}, {"Jean-Luc", "jean-luc"},
}

var familyNames = [...]name{
	{"Müller", "mueller"}, {"O'Neill", "oneill"}, {"Großmann", "grossmann"}, {"Çelik", "celik"}, {"Novák", "novak"}, {"Åkesson", "akesson"},
	{"García Márquez", "garcia"}, {"Иванова", "ivanova"}, {"山田", "yamada"}, {"Παππάς", "pappas"}, {"van der Berg", "vdberg"}, {"Smith", "smith"},
	{"Okonkwo", "okonkwo"}, {"Patel", "patel"}, {"Li", "li"}, {"D'Angelo", "dangelo"}, {"Jones-Evans", "jones"}, {"Kowalska", "kowalska"},
	{"Haddad", "haddad"}, {"Łęcki", "lecki"},
}

var titles = [...]string{"Engineer", "Account Manager", "Nurse", "Büroleiter", "Director, R&D", "Analyst <Risk>", "教授", "Site \"Reliability\" Engineer"}

var departments = [...]string{"Sales", "R&D", "Finance & Control", "Forschung", "Support"}

// Generate returns n persons, the same for the same seed. All are enabled;
// names use several scripts, some attributes have no value, most persons have a
// manager who comes before them. userNames are at most 30 characters long
// for up to 10 million persons.
func Generate(n int, seed uint64) []Person { return generate(n, seed, false) }

// GenerateLong is Generate with userNames longer than 30 characters, which some
// service providers refuse.
func GenerateLong(n int, seed uint64) []Person { return generate(n, seed, true) }

func generate(n int, seed uint64, long bool) []Person {
	rnd := rand.New(rand.NewPCG(seed, 0x5c1ae2))
	persons := make([]Person, 0, max(n, 0))
	for i := range n {
		given := givenNames[rnd.IntN(len(givenNames))]
		family := familyNames[rnd.IntN(len(familyNames))]
		// The longest: one letter, dot, 9 letters, 7 digits, 12 of the domain.
		user := fmt.Sprintf("%.1s.%.9s%d@example.com", given.ascii, family.ascii, i+1)
		if long {
			user = fmt.Sprintf("%s.%s%d@subsidiary.corporation.example.com", given.ascii, family.ascii, i+1)
		}
		p := Person{
			ObjectID:       uuid(rnd.Uint64(), rnd.Uint64()),
			UserName:       user,
			GivenName:      given.written,
			FamilyName:     family.written,
			DisplayName:    given.written + " " + family.written,
			Mail:           fmt.Sprintf("%s.%s%d@mail.example.com", given.ascii, family.ascii, i+1),
			Department:     departments[rnd.IntN(len(departments))],
			EmployeeNumber: fmt.Sprintf("%06d", 100000+i),
			Enabled:        true,
		}
		if rnd.IntN(10) > 0 {
			p.Title = titles[rnd.IntN(len(titles))]
		}
		if rnd.IntN(10) > 2 {
			p.Phone = fmt.Sprintf("+1 555 %03d %04d", rnd.IntN(1000), rnd.IntN(10000))
		}
		if i > 0 && rnd.IntN(10) > 1 {
			p.ManagerObjectID = persons[rnd.IntN((i+9)/10)].ObjectID
		}
		persons = append(persons, p)
	}
	return persons
}

// uuid writes a version 4 UUID (RFC 9562, Section 5.4).
func uuid(hi, lo uint64) string {
	hi = hi&^0xf000 | 0x4000
	lo = lo&^(3<<62) | 2<<62
	return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", hi>>32, hi>>16&0xffff, hi&0xffff, lo>>48, lo&0xffffffffffff)
}
