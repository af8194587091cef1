package simulator

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"scimgate/transform/scim"
)

// Kind is what goes wrong.
type Kind string

// The kinds of faults.
const (
	Status   Kind = "status"   // an error answer of this status
	Hang     Kind = "hang"     // no answer until the client gives up, or Close
	Reset    Kind = "reset"    // the connection is reset
	Lost     Kind = "lost"     // carried out, but the connection is closed instead of an answer
	Truncate Kind = "truncate" // carried out, but the answer's body breaks off; like lost where it has no body
	HTML     Kind = "html"     // an HTML page, of status 200 unless Status says otherwise
	Slow     Kind = "slow"     // a right answer after Delay
)

// When says whether a request is carried out before the fault strikes.
type When string

// The values of When; "" is the kind's own: After for Lost and Truncate, else Before.
const (
	Before When = "before" // the fault strikes first: nothing is carried out, except under Slow, which delays it
	After  When = "after"  // the request is carried out, then the fault strikes
)

// Fault is something that goes wrong with the requests that it matches. Fields for matching that are zero match
// everything.
type Fault struct {
	Kind       Kind          // required; "" with a Status means Status
	Status     int           // Status: 300 to 599, required. HTML: 200 to 599
	RetryAfter time.Duration // Status and HTML: the Retry-After header, in whole seconds; 0: none
	Delay      time.Duration // before the fault strikes, or for Slow the answer
	When       When

	Op     scim.Op // only this operation
	Method string  // only this HTTP method
	User   string  // only requests that name this userName or id: in the body, in a filter, or as the resource

	Nth   int     // strike from the Nth matching request on; 0: from the first
	Times int     // strike so often; 0: for ever, or once with Nth
	P     float64 // probability to strike, above 0 and at most 1; 0: 1. Drawn from the simulator's seed
}

const grammar = "want KIND[,KEY=VALUE...], where KIND is status=503 (or any of 300 to 599), hang, reset, lost, truncate, html or slow, " +
	"and KEY=VALUE is op=create|get|query|replace|patch|delete|discover, method=POST, user=NAME, times=3, nth=17, p=0.01, " +
	"delay=2s, retry-after=2, when=before|after, and status=502 after html"

// ParseFault reads a fault as the command line has it, such as "status=503,op=create,times=3,retry-after=2",
// "lost,op=create,nth=17", "hang", "reset,p=0.01" or "html,status=502".
func ParseFault(text string) (Fault, error) {
	var f Fault
	seen := map[string]bool{}
	for part := range strings.SplitSeq(text, ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		name := key
		if f.Kind == "" && (slices.Contains(kinds, Kind(key)) || key == "") {
			name = "kind"
		}
		if seen[name] {
			return Fault{}, fmt.Errorf("fault %q: %s occurs twice; %s", text, name, grammar)
		}
		seen[name] = true
		if err := f.set(name, key, value); err != nil {
			return Fault{}, fmt.Errorf("fault %q: %w; %s", text, err, grammar)
		}
	}
	if err := f.check(); err != nil {
		return Fault{}, fmt.Errorf("fault %q: %w; %s", text, err, grammar)
	}
	return f, nil
}

var (
	kinds      = []Kind{Status, Hang, Reset, Lost, Truncate, HTML, Slow}
	operations = []scim.Op{scim.OpCreate, scim.OpGet, scim.OpQuery, scim.OpReplace, scim.OpPatch, scim.OpDelete, scim.OpDiscover}
	methods    = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}
)

func (f *Fault) set(name, key, value string) (err error) {
	number := func(v string) (n int) {
		if n, err = strconv.Atoi(v); err != nil || n < 1 {
			err = fmt.Errorf("%s must be a positive number", key)
		}
		return n
	}
	switch name {
	case "kind":
		f.Kind = Kind(key)
		switch {
		case f.Kind == Status:
			f.Status = number(value)
		case value != "":
			err = fmt.Errorf("%s takes no value", key)
		}
	case "status":
		f.Status = number(value)
	case "op":
		f.Op = scim.Op(strings.ToLower(value))
	case "method":
		f.Method = strings.ToUpper(value)
	case "user":
		f.User = value
	case "times":
		f.Times = number(value)
	case "nth":
		f.Nth = number(value)
	case "p":
		if f.P, err = strconv.ParseFloat(value, 64); err != nil || !(f.P > 0 && f.P <= 1) {
			err = fmt.Errorf("p must be above 0 and at most 1")
		}
	case "delay":
		f.Delay, err = readDuration(key, value)
	case "retry-after":
		f.RetryAfter, err = readDuration(key, value)
	case "when":
		f.When = When(value)
	default:
		err = fmt.Errorf("%q is nothing known", key)
	}
	return err
}

// readDuration reads whole seconds, or a duration of Go.
func readDuration(key, value string) (time.Duration, error) {
	if n, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(n) * time.Second, nil
	}
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%s must be seconds or a duration such as 2s or 150ms", key)
	}
	return d, nil
}

// check completes the fault and says what is wrong with it.
func (f *Fault) check() error {
	if f.Kind == "" && f.Status != 0 {
		f.Kind = Status
	}
	if f.Kind == HTML && f.Status == 0 {
		f.Status = http.StatusOK
	}
	if f.When == "" {
		f.When = Before
		if f.Kind == Lost || f.Kind == Truncate {
			f.When = After
		}
	}
	answers := f.Kind == Status || f.Kind == HTML
	switch {
	case !slices.Contains(kinds, f.Kind):
		return fmt.Errorf("the kind is missing")
	case f.Kind == Status && (f.Status < 300 || f.Status > 599):
		return fmt.Errorf("status must be 300 to 599")
	case f.Kind == HTML && (f.Status < 200 || f.Status > 599):
		return fmt.Errorf("status must be 200 to 599 after html")
	case !answers && (f.Status != 0 || f.RetryAfter != 0):
		return fmt.Errorf("%s has neither status nor retry-after", f.Kind)
	case f.Kind == Slow && f.Delay <= 0:
		return fmt.Errorf("slow needs a delay")
	case f.When != Before && f.When != After:
		return fmt.Errorf("when must be before or after")
	case (f.Kind == Lost || f.Kind == Truncate) && f.When != After:
		return fmt.Errorf("%s is always after", f.Kind)
	case f.Op != "" && !slices.Contains(operations, f.Op):
		return fmt.Errorf("op is no operation")
	case f.Method != "" && !slices.Contains(methods, f.Method):
		return fmt.Errorf("method is no method of SCIM")
	case f.P < 0 || f.P > 1 || f.Nth < 0 || f.Times < 0 || f.Delay < 0 || f.RetryAfter < 0:
		return fmt.Errorf("p, nth, times, delay and retry-after must not be negative, and p at most 1")
	}
	return nil
}

// String is the fault as ParseFault reads it.
func (f Fault) String() string {
	text := string(f.Kind)
	if f.Kind == Status {
		text += "=" + strconv.Itoa(f.Status)
	}
	add := func(key, value string, set bool) {
		if set {
			text += "," + key + "=" + value
		}
	}
	add("status", strconv.Itoa(f.Status), f.Kind == HTML && f.Status != http.StatusOK)
	add("op", string(f.Op), f.Op != "")
	add("method", f.Method, f.Method != "")
	add("user", f.User, f.User != "")
	add("nth", strconv.Itoa(f.Nth), f.Nth > 0)
	add("times", strconv.Itoa(f.Times), f.Times > 0)
	add("p", strconv.FormatFloat(f.P, 'g', -1, 64), f.P > 0)
	add("delay", f.Delay.String(), f.Delay > 0)
	add("retry-after", strconv.Itoa(seconds(f.RetryAfter)), f.RetryAfter > 0)
	add("when", string(f.When), f.When == After && f.Kind != Lost && f.Kind != Truncate)
	return text
}

func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// injected is a fault in force. The simulator's lock guards it.
type injected struct {
	Fault
	seen, struck int
	rand         *rand.Rand // its own, so that other faults do not change what it draws
}

// Inject puts a fault in force until cancel is called, its Times are used up, or Reset. Of several faults that
// match a request the one injected first strikes. Inject panics when the fault is not valid, which ParseFault
// reports as an error.
func (s *Simulator) Inject(f Fault) (cancel func()) {
	if err := f.check(); err != nil {
		panic("simulator: Inject: " + err.Error())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.injections++
	in := &injected{Fault: f, rand: rand.New(rand.NewPCG(s.cfg.Seed, s.injections))}
	s.faults = append(s.faults, in)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.faults = slices.DeleteFunc(s.faults, func(other *injected) bool { return other == in })
	}
}

// strike finds the fault for a request, if any. req is nil when the request could not be read.
func (s *Simulator) strike(method string, req *scim.Request) *Fault {
	for i, in := range s.faults {
		if !s.matches(&in.Fault, method, req) {
			continue
		}
		in.seen++
		if in.seen < in.Nth || in.P > 0 && in.rand.Float64() >= in.P {
			continue
		}
		in.struck++
		if in.Times > 0 && in.struck == in.Times || in.Times == 0 && in.Nth > 0 {
			s.faults = slices.Delete(slices.Clone(s.faults), i, i+1)
		}
		return &in.Fault
	}
	return nil
}

func (s *Simulator) matches(f *Fault, method string, req *scim.Request) bool {
	switch {
	case f.Method != "" && f.Method != method:
		return false
	case f.Op == "" && f.User == "":
		return true
	case req == nil || f.Op != "" && f.Op != req.Op:
		return false
	}
	return f.User == "" || s.names(req, f.User)
}

// names reports whether a request is about a user, who is given by userName or id and not "".
func (s *Simulator) names(req *scim.Request, user string) bool {
	if req.Type == nil {
		return false
	}
	if req.ID != "" {
		if req.ID == user {
			return true
		}
		if k := s.kind(req.Type.Name); k != nil && k.byID[req.ID] != nil {
			return strings.EqualFold(k.byID[req.ID].resource.UserName(), user)
		}
		return false
	}
	if strings.EqualFold(req.Resource.UserName(), user) {
		return true
	}
	for name, value := range scim.EqualTerms(req.Query.Filter) {
		if text, ok := value.(string); ok && (strings.EqualFold(name, "userName") && strings.EqualFold(text, user) || strings.EqualFold(name, "id") && text == user) {
			return true
		}
	}
	return false
}
